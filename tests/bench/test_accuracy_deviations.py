"""Errors of a client whose every delay is known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.load.accuracy.measurement import (
    Level,
    e2e_error_s,
    itl_errors_s,
    lateness_s,
    require_whole,
    spread,
    ttft_error_s,
)
from bench.load.accuracy.running import SourceTimes
from bench.records import Sample
from tests.bench.making import answered, failed

short = st.floats(0, 2)
chunks = st.lists(st.tuples(short, short), min_size=1, max_size=30)


def seen(
    times: SourceTimes, there_s: float, back_s: Sequence[float], zero_s: float = 0.0
) -> Sample:
    """What a client sees to which a request and each chunk take so long.

    It counts its times from `zero_s` of the source's clock.
    """
    chunk_s = tuple(
        sent_s + way_s - zero_s for sent_s, way_s in zip(times.chunk_s, back_s, strict=True)
    )
    return replace(
        answered(0, 0.1),
        sent_s=times.arrived_s - there_s - zero_s,
        first_token_s=chunk_s[0],
        last_token_s=chunk_s[-1],
        chunk_s=chunk_s,
    )


def times_of(gaps_s: Sequence[float], arrived_s: float = 100.0) -> SourceTimes:
    return SourceTimes(arrived_s, tuple(itertools.accumulate(gaps_s, initial=arrived_s))[1:])


@given(short, chunks, st.floats(-1e4, 1e4))
def test_errors_are_the_ways_there_and_back(
    there_s: float, ways: list[tuple[float, float]], zero_s: float
) -> None:
    times = times_of([gap_s for gap_s, _ in ways])
    back_s = [way_s for _, way_s in ways]
    sample = seen(times, there_s, back_s, zero_s)
    assert ttft_error_s(sample, times) == pytest.approx(there_s + back_s[0], abs=1e-6)
    assert e2e_error_s(sample, times) == pytest.approx(there_s + back_s[-1], abs=1e-6)
    differences = [after - before for before, after in itertools.pairwise(back_s)]
    assert itl_errors_s(sample, times) == pytest.approx(differences, abs=1e-6)


@given(short, st.floats(0, 1), st.integers(2, 30))
def test_a_source_that_claims_to_have_sent_earlier_makes_just_that_error(
    way_s: float, late: float, n: int
) -> None:
    sent = times_of([0.01] * n)
    claimed = SourceTimes(sent.arrived_s, tuple(at_s - late for at_s in sent.chunk_s))
    sample = seen(sent, 0.0, [way_s] * n)
    assert ttft_error_s(sample, claimed) == pytest.approx(way_s + late, abs=1e-6)
    assert e2e_error_s(sample, claimed) == pytest.approx(way_s + late, abs=1e-6)
    assert itl_errors_s(sample, claimed) == pytest.approx([0.0] * (n - 1), abs=1e-6)


@given(st.lists(short, min_size=1, max_size=30), st.integers(1, 1000), st.integers(1, 1000))
def test_the_sources_own_lateness_is_in_its_times(
    lates_s: list[float], first_ms: int, every_ms: int
) -> None:
    level = Level(1, first_ms, every_ms, len(lates_s), 1)
    due_s = [7.0 + (first_ms + index * every_ms) / 1000 for index in range(len(lates_s))]
    times = SourceTimes(7.0, tuple(due + late for due, late in zip(due_s, lates_s, strict=True)))
    assert lateness_s(level, times) == pytest.approx(lates_s, abs=1e-6)


@given(st.lists(short, min_size=1))
def test_a_spread_has_the_percentiles_in_order_and_counts_its_values(values: list[float]) -> None:
    found = spread(values)
    expected = np.percentile(values, [50, 95, 99, 100]).tolist()
    assert [found.p50_s, found.p95_s, found.p99_s, found.max_s] == pytest.approx(expected)
    assert found.p50_s <= found.p95_s <= found.p99_s <= found.max_s
    assert found.n == len(values)


def test_there_is_no_spread_of_nothing() -> None:
    with pytest.raises(ValueError, match="unpack"):
        spread([])


def test_a_client_that_lost_a_chunk_cannot_be_trusted() -> None:
    times = times_of([0.1] * 6)
    with pytest.raises(UserError, match="has 5 chunks of the 6 that the source sent"):
        require_whole(answered(0, 0.1), times)
    with pytest.raises(UserError, match="has 5 chunks of the 0"):
        require_whole(answered(0, 0.1), None)


def test_a_request_that_failed_is_named_with_its_reason() -> None:
    with pytest.raises(UserError, match=r"request 3 failed: status \(out of luck\)"):
        require_whole(failed(3), times_of([0.1] * 5))
