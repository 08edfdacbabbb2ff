"""Numbers in words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.records import Slo
from reports import wording

FACTORS = {"ms": 0.001, "s": 1.0}


@given(st.floats(min_value=1e-6, max_value=1e5))
def test_a_duration_reads_back_within_three_digits(seconds: float) -> None:
    amount, unit = wording.duration(seconds).split()
    assert float(amount) * FACTORS[unit] == pytest.approx(seconds, rel=0.006)


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_a_number_never_has_an_exponent(value: float) -> None:
    assert re.fullmatch(r"\d+(\.\d+)?", wording.number(value))


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0412, "s", "41.2 ms"),
        (0.9994, "s", "999 ms"),
        (0.9996, "s", "1.00 s"),
        (12.41, "s", "12.4 s"),
        (331.4, "tok/s", "331 tok/s"),
        (7.2, "req/s", "7.20 req/s"),
        (0.975, "share", "97.5 %"),
        (0.0, "s", "0 ms"),
        (0.0, "share", "0.0 %"),
    ],
)
def test_quantities_have_the_unit_that_people_use(value: float, unit: str, words: str) -> None:
    assert wording.quantity(value, unit) == words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("scheduled_ttft_p95_s", "Scheduled TTFT p95"),
        ("tpot_p50_s", "TPOT p50"),
        ("goodput_rps", "Goodput"),
        ("output_tps", "Output throughput"),
        ("slo_attainment", "SLO attainment"),
    ],
)
def test_metrics_have_readable_names(name: str, words: str) -> None:
    assert wording.metric(name) == words


def test_objectives_are_written_as_in_the_file_and_only_those_that_are_set() -> None:
    assert wording.objectives(Slo(ttft_s=2.0, tpot_s=0.1)) == "TTFT ≤ 2 s, TPOT ≤ 100 ms"
    assert wording.objectives(Slo()) == ""
