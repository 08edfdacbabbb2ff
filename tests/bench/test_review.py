from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.review import profile_longer, review, without
from bench.store import TrialStore
from tests.bench.making import paired


def notes(tmp_path: Path, treatment_s: list[float], **provenance: object) -> tuple[str, ...]:
    store = TrialStore(tmp_path)
    for one in paired([1.0] * len(treatment_s), treatment_s):
        store.save(replace(one, provenance=dict(provenance)))
    (case,) = review(store)
    return case.judgement.notes


def test_an_undecided_comparison_says_what_would_decide_it_and_how(tmp_path: Path) -> None:
    arguments = ["-m", "managed", "-k", "heavy_tail", "--profile", "quick", "--seed", "7"]
    (note,) = notes(tmp_path, [0.7, 1.1, 0.8, 0.9], profile="quick", arguments=arguments)
    assert note.startswith("undecided after 4 blocks: if it goes on alike, about ")
    command = "pytest -m managed --seed 7 -k 'heavy_tail and tiny-llama' --profile "
    assert note.endswith((f"{command}auto", f"{command}standard"))


def test_a_decided_comparison_needs_no_advice(tmp_path: Path) -> None:
    assert notes(tmp_path, [0.3, 0.31, 0.3, 0.32], profile="quick", arguments=[]) == ()


def test_what_was_converted_from_another_tool_gets_no_command(tmp_path: Path) -> None:
    assert notes(tmp_path, [0.7, 1.1, 0.8, 0.9]) == ()


@pytest.mark.parametrize(
    ("profile", "blocks", "longer"),
    [
        ("quick", 12, "auto"),
        ("quick", 40, "standard"),
        ("auto", 200, "thorough"),
        ("standard", 9999, "thorough"),
    ],
)
def test_the_advice_is_the_first_profile_that_is_long_enough(
    profile: str, blocks: int, longer: str
) -> None:
    assert profile_longer(profile, blocks) == longer


def test_options_that_the_advice_gives_are_taken_out_of_the_command() -> None:
    typed = ["-m", "managed", "--profile=quick", "-k", "a or b", "--models", "x", "--profile", "y"]
    assert list(without(typed, ("-k", "--profile"))) == ["-m", "managed", "--models", "x"]
