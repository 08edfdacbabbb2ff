import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.estimates import log_ratio, t_interval
from bench.analysis.judgement import Verdict
from bench.analysis.verdict import ALPHA, LOOKS, Decision, decide, last_look
from bench.records import Direction

MIRROR = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
effect = st.floats(min_value=-3, max_value=3)
four = st.lists(effect, min_size=4, max_size=4)
odd = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


def judged(ratios: Sequence[float], direction: Direction = "lower") -> Decision:
    return decide([math.log(ratio) for ratio in ratios], direction, ALPHA)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((0.50, 0.51, 0.49, 0.50), Verdict.BETTER),
        ((2.00, 2.01, 1.99, 2.00), Verdict.WORSE),
        ((1.00, 1.01, 0.99, 1.00), Verdict.EQUIVALENT),
        ((0.50, 2.00, 0.70, 1.40), Verdict.INCONCLUSIVE),
        # Certain, yet smaller than matters: no gain, no loss.
        ((0.97, 0.97, 0.97, 0.97), Verdict.EQUIVALENT),
        ((1.03, 1.03, 1.03, 1.03), Verdict.EQUIVALENT),
    ],
)
def test_the_verdict_needs_certainty_and_size(ratios: tuple[float, ...], verdict: Verdict) -> None:
    assert judged(ratios).verdict is verdict


def test_where_more_is_better_a_higher_ratio_wins_and_is_reported_as_it_is() -> None:
    decision = judged((1.5, 1.51, 1.49, 1.5), "higher")
    assert decision.verdict is Verdict.BETTER
    assert decision.ratio == pytest.approx(1.5, abs=0.01)
    assert decision.low is not None
    assert decision.high is not None
    assert 1.4 < decision.low < decision.high < 1.6


@given(four)
def test_swapping_the_arms_inverts_the_ratio_and_mirrors_the_verdict(effects: list[float]) -> None:
    here = decide(effects, "lower", ALPHA)
    there = decide([-one for one in effects], "lower", ALPHA)
    assert there.verdict is MIRROR.get(here.verdict, here.verdict)
    assert here.ratio is not None
    assert there.ratio == pytest.approx(1 / here.ratio)


@given(four)
def test_the_direction_mirrors_the_verdict_and_leaves_the_numbers(effects: list[float]) -> None:
    lower = decide(effects, "lower", ALPHA)
    higher = decide(effects, "higher", ALPHA)
    assert higher.verdict is MIRROR.get(lower.verdict, lower.verdict)
    assert (higher.ratio, higher.low, higher.high) == (lower.ratio, lower.low, lower.high)


@given(four, st.floats(0, 2))
def test_a_slower_treatment_is_never_judged_more_kindly(effects: list[float], more: float) -> None:
    before = decide(effects, "lower", ALPHA).verdict
    after = decide([one + more for one in effects], "lower", ALPHA).verdict
    if before is Verdict.WORSE:
        assert after is Verdict.WORSE
    if after is Verdict.BETTER:
        assert before is Verdict.BETTER


@given(four)
def test_the_order_of_blocks_does_not_matter(effects: list[float]) -> None:
    backwards = effects[::-1]
    assert decide(effects, "lower", ALPHA) == decide(backwards, "lower", ALPHA)


@given(st.lists(odd, max_size=12))
def test_any_effects_at_all_give_a_verdict_and_numbers_or_a_reason(
    effects: list[float | None],
) -> None:
    decision = decide(effects, "lower", ALPHA)
    if decision.ratio is None:
        assert decision.verdict is Verdict.INCONCLUSIVE
        assert decision.reasons
    else:
        assert not math.isnan(decision.ratio)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 5, 7, 9, 10])
def test_nothing_is_decided_between_the_planned_looks(blocks: int) -> None:
    decision = judged([0.5] * blocks)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert f"{blocks} complete blocks" in decision.reasons[0]


def test_the_last_look_is_the_largest_that_the_blocks_allow() -> None:
    assert [last_look(blocks) for blocks in (0, 3, 4, 5, 6, 9, 12, 25)] == [
        0, 0, 4, 4, 6, 8, 12, 24,
    ]  # fmt: skip
    assert LOOKS == (4, 6, 8, 12, 16, 24)


@pytest.mark.parametrize(
    ("treatment", "control"),
    [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (math.inf, 1.0), (math.inf, math.inf), (None, 1.0),
     (math.nan, 1.0), (-1.0, 1.0)],
)  # fmt: skip
def test_values_without_a_finite_ratio_have_no_effect(
    treatment: float | None, control: float | None
) -> None:
    assert log_ratio(treatment, control) is None


def test_the_interval_is_students() -> None:
    interval = t_interval([1.0, 2.0, 3.0, 4.0], 0.05)
    assert interval is not None
    # t(0.975, 3) = 3.1824, s = 1.2910
    assert interval.mean == 2.5
    assert interval.high - interval.mean == pytest.approx(3.1824 * 1.2910 / 2, rel=1e-4)


@given(effect, st.integers(2, 10))
def test_equal_blocks_have_an_interval_without_width(value: float, blocks: int) -> None:
    interval = t_interval([value] * blocks, ALPHA)
    assert interval is not None
    assert interval.low == interval.mean == interval.high == value
