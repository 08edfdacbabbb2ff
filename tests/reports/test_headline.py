"""A run in one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.analysis.judgement import Judgement, Verdict
from reports.headline import headline
from tests.reports.cases import (
    better_case,
    invalid_case,
    one_arm_case,
    same_arm_case,
    searched_case,
)


def judged_as(verdict: Verdict, name: str = "heavy-tail", round_: int = 1) -> Judgement:
    judgement = better_case(name).judgement
    primary, *others = judgement.comparisons
    changed = (replace(primary, verdict=verdict), *others)
    return replace(judgement, comparisons=changed, round=round_)


SIZE = "Scheduled TTFT p95 is 0.41 times as high (99 % interval 0.36 to 0.46, 4 blocks)."


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.BETTER, "managed is better than baseline"),
        (Verdict.WORSE, "managed is worse than baseline"),
        (Verdict.EQUIVALENT, "managed is equivalent to baseline"),
        (Verdict.INCONCLUSIVE, "Undecided whether managed is better than baseline"),
    ],
)
def test_it_says_what_won_by_how_much_and_how_sure_that_is(verdict: Verdict, words: str) -> None:
    assert headline([judged_as(verdict)]) == f"{words}: {SIZE}"


def test_an_invalid_comparison_has_its_reason_in_place_of_numbers() -> None:
    said = headline([invalid_case("the client was too slow").judgement])
    assert said == "No verdict on managed against baseline: the client was too slow."


def test_of_several_comparisons_every_verdict_is_counted() -> None:
    said = headline(
        [
            judged_as(Verdict.BETTER),
            judged_as(Verdict.BETTER, "burst"),
            judged_as(Verdict.INCONCLUSIVE, "latency"),
            invalid_case("the client was too slow").judgement,
        ]
    )
    assert said == (
        "managed is better than baseline in 2 of 4 comparisons; 1 is inconclusive, 1 is invalid."
        " Where it is better, Scheduled TTFT p95 is 0.41 times as high."
    )


def test_only_the_round_that_counts_is_told() -> None:
    said = headline([judged_as(Verdict.WORSE), judged_as(Verdict.EQUIVALENT, round_=2)])
    assert said.startswith("managed is equivalent to baseline")


def test_other_runs_are_told_as_what_they_are() -> None:
    assert headline([one_arm_case().judgement]) == "baseline was measured alone: held."
    assert "baseline is equivalent to itself" in headline([same_arm_case().judgement])
    assert headline([searched_case().judgement]).startswith("managed carries 2.00 [")
    assert headline([]) == ""
