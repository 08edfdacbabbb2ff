"""Failing tests find their heading in the report."""

from __future__ import annotations

import re

import pytest

from bench.analysis.gates import Failure, Gate, GateFailedError
from reports.result_files import category_rules


def first_match(message: str) -> str:
    return next(
        str(one["name"]) for one in category_rules() if re.search(one["messageRegex"], message)
    )


@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize("before", ["", "Failed: ", "AssertionError: ", "bench.errors.UserError: "])
def test_each_gate_has_a_heading_of_its_own(gate: Gate, before: str) -> None:
    headings = {first_match(f"{before}{Failure(one, 'text')}") for one in Gate}
    assert len(headings) == len(Gate)
    assert first_match(f"{before}{Failure(gate, 'text')}") != "Other errors"


def test_of_several_gates_the_first_decides() -> None:
    error = GateFailedError((Failure(Gate.WORSE, "1.3"), Failure(Gate.SLO_MISSED, "80 %")))
    assert first_match(f"Failed: {error}") == first_match(str(Failure(Gate.WORSE, "")))


@pytest.mark.parametrize(
    "message",
    ["ValueError: x", "", "TypeError: y\ninvalid: quoted further down", "worse than ever: text"],
)
def test_anything_else_is_an_other_error(message: str) -> None:
    assert first_match(message) == "Other errors"
