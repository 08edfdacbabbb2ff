"""Where a series moved, and what it could not show."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.changes import FINDS, SIDE, State, watch

NOISE = (1.02, 0.97, 1.0, 1.03, 0.98, 1.01, 0.99, 1.0, 0.96, 1.02, 1.01, 0.98)
SERIES = st.lists(st.floats(0.1, 10.0), min_size=0, max_size=30)


def test_noise_is_steady_and_says_what_it_would_have_shown() -> None:
    seen = watch(NOISE)
    assert seen.state is State.STEADY
    assert seen.moves == ()
    assert seen.finds is not None
    assert 1.05 <= seen.finds <= FINDS


def test_a_move_has_its_place_and_its_size_with_an_interval() -> None:
    seen = watch([*NOISE, *(1.3 * value for value in NOISE[:4])])
    assert seen.state is State.MOVED
    (move,) = seen.moves
    assert move.index == len(NOISE)
    assert move.before == pytest.approx(1.0, rel=0.02)
    assert move.factor == pytest.approx(move.after / move.before)
    assert move.low < 1.3 < move.high
    assert move.low > 1


def test_moves_there_and_back_are_both_found() -> None:
    seen = watch([*NOISE, *(1.5 * value for value in NOISE), *NOISE])
    assert [move.index for move in seen.moves] == [len(NOISE), 2 * len(NOISE)]
    assert seen.moves[0].factor == pytest.approx(1 / seen.moves[1].factor, rel=0.05)


@pytest.mark.parametrize("place", [0, 5, len(NOISE) - 1])
def test_a_single_run_that_went_astray_is_no_move(place: int) -> None:
    values = list(NOISE)
    values[place] *= 2
    assert watch(values).moves == ()


def test_a_move_that_is_too_small_to_matter_is_none() -> None:
    quiet = [1 + (value - 1) / 100 for value in NOISE]
    assert watch([*quiet, *(1.04 * value for value in quiet)]).moves == ()
    assert watch([*quiet, *(1.06 * value for value in quiet)]).state is State.MOVED


def test_equal_values_are_steady_and_any_move_of_them_is_found() -> None:
    assert watch([0.4] * 20).state is State.STEADY
    (move,) = watch([0.4] * SIDE + [0.5] * SIDE).moves
    assert (move.index, move.low, move.high) == (SIDE, move.factor, move.factor)


@pytest.mark.parametrize("runs", range(2 * SIDE))
def test_few_runs_are_insufficient_data(runs: int) -> None:
    seen = watch(NOISE[:runs])
    assert (seen.state, seen.more) == (State.INSUFFICIENT, 2 * SIDE - runs)


def test_so_many_more_runs_of_the_same_noise_are_enough() -> None:
    loud = [value**5 for value in NOISE[:8]]
    seen = watch(loud)
    assert seen.state is State.INSUFFICIENT
    assert seen.finds is not None
    assert seen.finds > FINDS
    # Runs in turn have a slightly smaller spread than the eight of them.
    assert watch([loud[place % 8] for place in range(8 + seen.more)]).state is State.STEADY


@given(SERIES, st.floats(0.01, 100))
def test_the_unit_of_the_values_does_not_matter(values: list[float], unit: float) -> None:
    seen, scaled = watch(values), watch([unit * value for value in values])
    assert scaled.state is seen.state
    assert [one.index for one in scaled.moves] == [one.index for one in seen.moves]


@given(SERIES)
def test_parts_between_moves_have_as_many_runs_as_a_move_needs(values: list[float]) -> None:
    edges = [0, *(move.index for move in watch(values).moves), len(values)]
    if len(edges) > 2:
        assert min(b - a for a, b in pairwise(edges)) >= SIDE


def test_histories_in_which_nothing_moves_seldom_seem_to_move() -> None:
    """The 25 searches of a history are alike; real histories are in docs/evidence."""
    draw = random.Random(3)
    histories = [[draw.lognormvariate(0, 0.1) for _ in range(30)] for _ in range(1000)]
    assert sum(watch(one).state is State.MOVED for one in histories) <= 25
