"""Gauges and counters over a stretch of time."""

from __future__ import annotations

from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.server_side import held, highest, increase, mean_level
from bench.records import ServerReading

WAITING, FINISHED = attrgetter("waiting"), attrgetter("finished")
END_S = 10.0
levels = st.one_of(st.none(), st.floats(0, 100))
# To the millisecond: between instants nearer than that nothing is read.
instants = st.integers(-2000, 12_000).map(lambda at_ms: at_ms / 1000)
times = st.lists(instants, min_size=1, max_size=12, unique=True).map(sorted)


@st.composite
def gauges(draw: st.DrawFn) -> list[ServerReading]:
    return [gauge(at_s, draw(levels)) for at_s in draw(times)]


def gauge(at_s: float, waiting: float | None) -> ServerReading:
    return ServerReading(at_s, at_s, waiting=waiting)


def counter(at_s: float, finished: float | None) -> ServerReading:
    return ServerReading(at_s, at_s, finished=finished)


def test_a_gauge_holds_until_it_is_read_again() -> None:
    readings = [gauge(-1, 2), gauge(4, 0), gauge(9, 10), gauge(12, 99)]
    assert list(held(readings, WAITING, 0, END_S)) == [(2, 4), (0, 5), (10, 1)]
    assert mean_level(readings, WAITING, 0, END_S) == pytest.approx(1.8)
    assert highest(readings, WAITING, 0, END_S) == 10


def test_a_reading_that_failed_is_left_out_and_does_not_count_as_0() -> None:
    readings = [gauge(0, 6), gauge(2, None), gauge(8, 6)]
    assert mean_level(readings, WAITING, 0, END_S) == 6
    assert list(held(readings, WAITING, 0, END_S)) == [(6, 2), (6, 2)]


@pytest.mark.parametrize("readings", [[], [gauge(1, None)], [gauge(11, 5)]])
def test_without_a_reading_in_time_nothing_is_known(readings: list[ServerReading]) -> None:
    assert mean_level(readings, WAITING, 0, END_S) is None
    assert highest(readings, WAITING, 0, END_S) is None


@given(gauges())
def test_the_mean_lies_between_the_lowest_and_the_highest(readings: list[ServerReading]) -> None:
    values = [value for value, _ in held(readings, WAITING, 0, END_S)]
    mean = mean_level(readings, WAITING, 0, END_S)
    assert (mean is None) == (not values)
    if mean is not None:
        assert min(values) - 1e-9 <= mean <= max(values) + 1e-9


@given(gauges(), instants.filter(lambda at_s: 0 < at_s < END_S))
def test_two_stretches_one_after_the_other_hold_what_the_whole_does(
    readings: list[ServerReading], cut_s: float
) -> None:
    def area(start_s: float, end_s: float) -> float:
        return sum(value * for_s for value, for_s in held(readings, WAITING, start_s, end_s))

    assert area(0, cut_s) + area(cut_s, END_S) == pytest.approx(area(0, END_S), abs=1e-6)


@given(gauges(), st.integers(-100, 100))
def test_it_does_not_matter_when_the_clock_began(
    readings: list[ServerReading], shift_s: int
) -> None:
    shifted = [gauge(one.at_s + shift_s, one.waiting) for one in readings]
    before = mean_level(readings, WAITING, 0, END_S)
    after = mean_level(shifted, WAITING, shift_s, END_S + shift_s)
    assert (before is None) == (after is None)
    assert after == pytest.approx(before, abs=1e-6)


def test_a_counter_rises_between_the_readings_around_the_trial() -> None:
    readings = [counter(at_s, at_s * 10) for at_s in (1, 2, 5, 11, 13)]
    assert increase(readings, FINISHED, 2.5, END_S) == 110 - 20


@pytest.mark.parametrize(
    "readings",
    [
        [],
        [counter(5, 3)],
        [counter(-1, None), counter(1, 3), counter(11, 5)],
        [counter(-1, 3), counter(9, 5), counter(11, None)],
    ],
)
def test_a_rise_that_was_not_seen_whole_is_unknown(readings: list[ServerReading]) -> None:
    assert increase(readings, FINISHED, 0, END_S) is None


@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_a_counter_that_begins_anew_loses_only_what_was_not_read(
    lives: list[list[int]],
) -> None:
    """Each life of an engine counts up from 0; the readings between show every step."""
    totals = [sum(life[: step + 1]) for life in lives for step in range(len(life))]
    spread = [END_S * (place + 1) / (len(totals) + 1) for place in range(len(totals))]
    inside = [counter(at_s, total) for at_s, total in zip(spread, totals, strict=True)]
    readings = [counter(-1, 0), *inside, counter(11, totals[-1])]
    rise = increase(readings, FINISHED, 0, END_S)
    assert rise is not None
    # A life that began higher than the one before had ended cannot be told from going on.
    assert totals[-1] <= rise <= sum(map(sum, lives))
    if len(lives) == 1:
        assert rise == totals[-1]
