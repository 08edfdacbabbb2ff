"""Slip: growth of the dispatch lag over a trial, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.checks import slip_s
from bench.records import ErrorKind, Sample
from tests.bench.making import answered, failed

lags = st.lists(st.floats(0, 1), min_size=10, max_size=200)


def late(lags_s: Sequence[float]) -> list[Sample]:
    """Requests due every 100 ms and sent so much later."""
    return [
        replace(answered(index, 0.2), sent_s=0.1 * index + lag_s)
        for index, lag_s in enumerate(lags_s)
    ]


@given(st.floats(0, 10), st.integers(10, 300))
def test_being_late_by_the_same_all_along_is_no_slip(lag_s: float, n: int) -> None:
    assert slip_s(late([lag_s] * n)) == pytest.approx(0.0, abs=1e-9)


@given(st.floats(0, 1), st.integers(20, 300))
def test_a_client_that_takes_too_long_for_each_request_slips(each_s: float, n: int) -> None:
    # From the middle of the first tenth to the middle of the last one.
    expected_s = each_s * (n - n // 10)
    assert slip_s(late([each_s * index for index in range(n)])) == pytest.approx(
        expected_s, abs=1e-6
    )


@given(st.integers(30, 300), st.data())
def test_a_stall_that_makes_one_request_late_is_no_slip(n: int, data: st.DataObject) -> None:
    lags_s = [0.001] * n
    lags_s[data.draw(st.integers(0, n - 1))] = 5.0
    assert slip_s(late(lags_s)) == pytest.approx(0.0, abs=1e-9)


@given(lags, st.integers())
def test_the_order_of_the_samples_does_not_matter(lags_s: list[float], seed: int) -> None:
    samples = late(lags_s)
    mixed = random.Random(seed).sample(samples, len(samples))
    assert slip_s(mixed) == slip_s(samples)


@given(lags)
def test_slip_is_bounded_by_the_greatest_lag(lags_s: list[float]) -> None:
    slip = slip_s(late(lags_s))
    assert slip is not None
    assert abs(slip) <= max(lags_s) + 1e-9


@given(st.lists(st.floats(0, 1), max_size=9))
def test_of_few_requests_nothing_can_be_told(lags_s: list[float]) -> None:
    unsent = [failed(index, ErrorKind.TIMEOUT, sent_s=None) for index in range(20)]
    assert slip_s([*late(lags_s), *unsent]) is None
