"""What the page draws itself: ratios of all cases, and the time lines of slow requests."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.judgement import Case
from reports.lanes import lanes_of
from reports.page import numbers
from reports.tails import tails_of
from tests.bench.making import answered, failed, trial
from tests.reports.cases import (
    better_case,
    failing_case,
    invalid_case,
    one_arm_case,
    searched_case,
)


def test_every_comparison_has_a_lane_with_interval_and_blocks() -> None:
    cases = [better_case("heavy-tail"), better_case("burst")]
    chart = lanes_of([case.judgement for case in cases])
    assert chart is not None
    assert [lane.title for lane in chart.lanes] == ["heavy-tail · tiny-llama", "burst · tiny-llama"]
    for lane in chart.lanes:
        assert lane.low is not None
        assert lane.middle is not None
        assert lane.high is not None
        assert 0 <= lane.low < lane.middle < lane.high < chart.one
        assert len(lane.dots) == 4
        assert lane.dots[0][1] == "block 0: 0.40"
    assert lanes_of([one_arm_case().judgement]) is None


def test_an_invalid_comparison_has_a_lane_with_its_reason() -> None:
    chart = lanes_of([invalid_case("the client was too slow").judgement])
    assert chart is not None
    (lane,) = chart.lanes
    assert (lane.middle, lane.reason) == (None, "the client was too slow")


def test_an_invalid_interval_does_not_squeeze_the_others() -> None:
    judgement = better_case().judgement
    wild = replace(judgement.comparisons[0], low=1e-3, high=1e3)
    invalid = replace(judgement, comparisons=(wild,), invalid_reasons=("too few requests",))
    alone, beside = lanes_of([judgement]), lanes_of([judgement, invalid])
    assert alone is not None
    assert beside is not None
    assert beside.ticks == alone.ticks
    assert beside.lanes[0] == alone.lanes[0]


@given(st.floats(0, math.inf), st.floats(0, math.inf))
def test_lanes_stay_inside_the_chart(one: float, other: float) -> None:
    judgement = better_case().judgement
    low, high = sorted((one, other))
    wild = replace(judgement.comparisons[0], low=low, high=high, ratio=(low + high) / 2)
    chart = lanes_of([replace(judgement, comparisons=(wild,))])
    assert chart is not None
    (lane,) = chart.lanes
    for place in (lane.low, lane.middle, lane.high, *(at for at, _ in chart.ticks)):
        assert place is None or 0 <= place <= 100


def slow_case() -> Case:
    """A block in which request 3 of baseline is slow, and request 5 of managed fails."""
    control = [answered(index, 2.0 if index == 3 else 0.1) for index in range(40)]
    treatment = [failed(index) if index == 5 else answered(index, 0.1) for index in range(40)]
    trials = (trial("control", 0, 0, control), trial("treatment", 0, 1, treatment))
    judgement = replace(better_case().judgement, ratios={0: 1.0})
    return Case(judgement, trials)


def test_the_slowest_requests_come_first_with_the_same_one_of_the_other_arm() -> None:
    tails = tails_of(slow_case(), "tail-0")
    assert tails is not None
    control, treatment = tails.lanes
    slowest, lost = control.examples[0], treatment.examples[0]
    assert slowest.text == "2.00 s to the first token (block 0, request 3)"
    assert [line.role for line in slowest.lines] == ["control", "treatment"]
    assert slowest.lines[1].text.startswith("managed: 100 ms to the first token")
    assert lost.text == "failed: status (block 0, request 5)"
    assert lost.place == tails.failed
    assert lost.lines[0].failed_at is not None
    assert slowest.place > max(one.place for one in control.examples[1:])


def test_both_arms_and_both_lines_share_their_axes() -> None:
    tails = tails_of(slow_case(), "tail-0")
    assert tails is not None
    control, treatment = tails.lanes
    assert control.marks[0] == treatment.marks[0]
    (_, waiting, _), (_, other, _) = (line.spans for line in control.examples[0].lines)
    # It waited 2 s, the other 0.1 s.
    assert waiting[2] == pytest.approx(20 * other[2], rel=0.01)


def test_requests_of_blocks_that_do_not_count_are_left_out() -> None:
    case = slow_case()
    assert tails_of(replace(case, judgement=replace(case.judgement, ratios={7: 1.0})), "t") is None


def test_keys_of_all_examples_differ() -> None:
    tails = tails_of(better_case(), "tail-0")
    assert tails is not None
    keys = [one.key for lane in tails.lanes for one in lane.examples]
    assert len(keys) == len(set(keys)) == 10


@pytest.mark.parametrize("case", [failing_case(), one_arm_case()])
def test_unusual_cases_have_tails(case: Case) -> None:
    assert tails_of(case, "tail-0") is not None


def test_where_the_load_was_searched_for_there_are_none() -> None:
    assert tails_of(searched_case(), "tail-0") is None


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("0.41 [0.36, 0.46]", ["0.41", "0.36", "0.46"]),
        ("Scheduled TTFT p95 of tiny-llama-0", []),
        ("12,345 tokens, 99 %", ["12,345", "99"]),
        ("it's <b> 1", ["1"]),
    ],
)
def test_numbers_are_marked_and_digits_of_names_are_not(text: str, marked: list[str]) -> None:
    html = numbers(text)
    assert [part.partition("<")[0] for part in html.split('<span class="n">')[1:]] == marked
    assert "<b>" not in html
