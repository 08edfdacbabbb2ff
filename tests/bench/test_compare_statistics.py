"""How results of single runs are judged: the interval, the rule, and how often it is wrong."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.analysis.estimates import welch_interval
from bench.analysis.judgement import Verdict
from bench.analysis.verdict import ONE_RUN, decide_runs, runs_to_decide
from bench.records import Direction

ALPHA = 0.01
VALUES = st.lists(st.floats(0.001, 1000.0), min_size=1, max_size=8)
MIRRORED = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}


def test_the_interval_is_welchs() -> None:
    control, treatment = [1.0, 1.2, 0.9, 1.1], [2.0, 2.6, 1.8, 2.4]
    seen = welch_interval(control, treatment, ALPHA)
    assert seen is not None
    expected = stats.ttest_ind(treatment, control, equal_var=False).confidence_interval(1 - ALPHA)
    assert seen.mean == pytest.approx(statistics.mean(treatment) - statistics.mean(control))
    assert (seen.low, seen.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.inf], [math.nan, 1.0]])
def test_there_is_no_interval_of_one_run_or_of_what_is_not_finite(values: list[float]) -> None:
    assert welch_interval(values, [1.0, 2.0], ALPHA) is None
    assert welch_interval([1.0, 2.0], values, ALPHA) is None


def test_many_runs_of_one_side_do_not_make_up_for_few_of_the_other() -> None:
    few, many = [1.0, 1.1], [2.0, 2.1, 2.05, 1.95, 2.0, 2.02, 1.98, 2.03]
    with_many = welch_interval(few, many, ALPHA)
    assert with_many is not None
    error = math.sqrt(statistics.variance(few) / 2 + statistics.variance(many) / 8)
    assert with_many.high - with_many.mean >= float(stats.t.ppf(1 - ALPHA / 2, 2)) * error * 0.999


@given(VALUES, VALUES, st.sampled_from(["lower", "higher"]))
def test_swapping_the_sides_mirrors_the_verdict(
    control: list[float], treatment: list[float], direction: Direction
) -> None:
    for paired in (False, True):
        if paired:
            count = min(len(control), len(treatment))
            control, treatment = control[:count], treatment[:count]
        one = decide_runs(control, treatment, direction, ALPHA, paired=paired)
        other = decide_runs(treatment, control, direction, ALPHA, paired=paired)
        assert other.verdict is MIRRORED.get(one.verdict, one.verdict)
        assert one.ratio is not None
        assert other.ratio is not None
        assert one.ratio * other.ratio == pytest.approx(1.0)


@given(VALUES, VALUES)
def test_the_unit_of_the_values_does_not_matter(
    control: list[float], treatment: list[float]
) -> None:
    seconds = decide_runs(control, treatment, "lower", ALPHA, paired=False)
    other = decide_runs(
        [one * 1024 for one in control],
        [one * 1024 for one in treatment],
        "lower",
        ALPHA,
        paired=False,
    )
    assert seconds.ratio == pytest.approx(other.ratio)


def test_one_run_has_figures_and_no_verdict() -> None:
    for control, treatment in (([1.0], [2.0]), ([1.0], [2.0, 2.1, 2.0]), ([1.0, 1.1], [2.0])):
        seen = decide_runs(control, treatment, "lower", ALPHA, paired=False)
        assert (seen.verdict, seen.low, seen.reasons) == (Verdict.INCONCLUSIVE, None, (ONE_RUN,))
        assert seen.ratio == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("value", [0.0, math.inf])
def test_a_run_without_a_finite_value_has_no_ratio(value: float) -> None:
    seen = decide_runs([1.0, 1.0], [1.0, value], "lower", ALPHA, paired=True)
    assert (seen.verdict, seen.ratio) == (Verdict.INCONCLUSIVE, None)


@pytest.mark.parametrize(
    ("control", "treatment", "direction", "verdict"),
    [
        ([1.0, 1.01, 0.99, 1.0], [0.5, 0.51, 0.5, 0.49], "lower", Verdict.BETTER),
        ([1.0, 1.01, 0.99, 1.0], [0.5, 0.51, 0.5, 0.49], "higher", Verdict.WORSE),
        ([1.0, 1.01, 0.99, 1.0], [1.01, 1.0, 1.0, 1.01], "lower", Verdict.EQUIVALENT),
        ([1.0, 1.001, 0.999, 1.0], [1.03, 1.031, 1.029, 1.03], "lower", Verdict.EQUIVALENT),
        ([1.0, 2.0, 0.5, 1.0], [0.8, 1.5, 0.4, 1.1], "lower", Verdict.INCONCLUSIVE),
    ],
)
def test_the_rule(
    control: list[float], treatment: list[float], direction: Direction, verdict: Verdict
) -> None:
    seen = decide_runs(control, treatment, direction, ALPHA, paired=False)
    assert seen.verdict is verdict


def test_pairs_see_what_the_noise_of_runs_hides() -> None:
    control = [1.0, 2.0, 0.5, 1.4]
    treatment = [0.8 * one * noise for one, noise in zip(control, (1, 1.01, 0.99, 1), strict=True)]
    paired, apart = (
        decide_runs(control, treatment, "lower", ALPHA, paired=paired) for paired in (True, False)
    )
    assert (paired.verdict, apart.verdict) == (Verdict.BETTER, Verdict.INCONCLUSIVE)


def wrong(counts: Sequence[int], spreads: Sequence[float], *, paired: bool = False) -> list[float]:
    """How often an arm is better, and worse, than itself."""
    random, runs, found = np.random.default_rng(3), 1500, []
    for _ in range(runs):
        control, treatment = (
            np.exp(random.normal(0.0, spread, count)).tolist()
            for count, spread in zip(counts, spreads, strict=True)
        )
        found.append(decide_runs(control, treatment, "lower", ALPHA, paired=paired).verdict)
    return [found.count(one) / runs for one in (Verdict.BETTER, Verdict.WORSE)]


@pytest.mark.parametrize("counts", [(2, 2), (2, 3), (2, 8), (3, 3), (4, 4), (8, 8)])
@pytest.mark.parametrize("spreads", [(0.1, 0.1), (0.02, 0.3), (0.3, 0.02)])
def test_an_arm_is_seldom_better_or_worse_than_itself(
    counts: tuple[int, int], spreads: tuple[float, float]
) -> None:
    # At most 2.5 % each, as in a comparison that is measured here; and what chance adds.
    assert max(wrong(counts, spreads)) <= 0.025 + 3 * math.sqrt(0.025 / 1500)
    if counts[0] == counts[1]:
        assert sum(wrong(counts, (0.1, 0.1), paired=True)) <= 0.02


def test_how_many_runs_would_decide() -> None:
    control, treatment = [1.0, 1.2, 0.9, 1.1], [0.8, 1.0, 0.75, 0.85]
    needed = runs_to_decide(control, treatment, ALPHA, paired=False)
    assert needed is not None
    assert needed > 4
    assert runs_to_decide([1.0, 1.0], [1.0, 1.0], ALPHA, paired=True) == 2
