"""Counting, and adding up what several processes have counted."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.observability.counters import Counters, Histogram, Series
from lb.observability.exposition import Tree, merge
from lb.observability.metrics import ADDED, METRICS, without_replica

Action = Callable[[Counters, str, str, float], None]


def _refuse(counters: Counters, replica: str, model: str, seconds: float) -> None:
    counters.unsent(model, 429)
    counters.refused(429, "rate_limit_exceeded")


def _attempt(counters: Counters, replica: str, model: str, seconds: float) -> None:
    series = counters.series[replica, model]
    series.choices["least"] += 1
    series.in_flight += 1
    series.added.observe(seconds)


def _end(counters: Counters, replica: str, model: str, seconds: float) -> None:
    series = counters.series[replica, model]
    series.in_flight -= 1
    series.first_byte.observe(seconds)
    series.duration.observe(seconds)
    series.requests[200] += 1


def _fail(counters: Counters, replica: str, model: str, seconds: float) -> None:
    series = counters.series[replica, model]
    series.errors["lost"] += 1
    series.retries += 1


def _wait(counters: Counters, replica: str, model: str, seconds: float) -> None:
    counters.queues[model].length += 1
    counters.queues[model].wait.observe(seconds)


ACTIONS: Sequence[Action] = [_refuse, _attempt, _end, _fail, _wait]

# Sums of these are exact in whatever order; sums of floats in general are not.
exact_seconds = st.integers(0, 2**24).map(lambda n: n / 2**14)
events = st.tuples(
    st.sampled_from(ACTIONS), st.sampled_from("ab"), st.sampled_from("mn"), exact_seconds
)


def counted(happened: Sequence[tuple[Action, str, str, float]]) -> Counters:
    counters = Counters()
    for action, replica, model, seconds in happened:
        action(counters, replica, model, seconds)
    return counters


@given(st.lists(st.tuples(events, st.integers(0, 3))))
def test_what_processes_counted_adds_up_to_what_one_would_have_counted(
    happened: list[tuple[tuple[Action, str, str, float], int]],
) -> None:
    shares = [[event for event, seen_by in happened if seen_by == process] for process in range(4)]
    together = counted([event for event, _ in happened]).snapshot()
    assert merge(counted(share).snapshot() for share in shares) == together


@given(st.lists(events), st.lists(events), st.lists(events))
def test_merging_is_associative_and_changes_nothing(
    one: list[tuple[Action, str, str, float]],
    two: list[tuple[Action, str, str, float]],
    three: list[tuple[Action, str, str, float]],
) -> None:
    a, b, c = (counted(happened).snapshot() for happened in (one, two, three))
    before = json.dumps([a, b, c])
    assert merge([merge([a, b]), c]) == merge([a, merge([b, c])]) == merge([c, b, a])
    assert merge([a]) == a
    assert json.dumps([a, b, c]) == before


@given(st.lists(events))
def test_a_replica_that_is_forgotten_leaves_nothing_in_the_books(
    happened: list[tuple[Action, str, str, float]],
) -> None:
    counters = counted(happened)
    books = without_replica(counters.snapshot(), "a")
    counters.forget("a")
    assert {name: tree for name, tree in books.items() if tree != {}} == counters.snapshot()


@given(st.lists(events, min_size=1))
def test_a_snapshot_survives_json_and_what_happens_later(
    happened: list[tuple[Action, str, str, float]],
) -> None:
    counters = counted(happened)
    snapshot = counters.snapshot()
    copy = json.loads(json.dumps(snapshot))
    for action, replica, model, seconds in happened:
        action(counters, replica, model, seconds)
    assert snapshot == copy
    assert counters.snapshot() != copy


def test_every_count_belongs_to_a_metric_and_has_its_labels() -> None:
    labels = {metric.name: len(metric.labels) for metric in METRICS}
    every = counted([(action, "a", "m", 0.5) for action in ACTIONS]).snapshot()
    assert {name: _depth(tree) for name, tree in every.items()} == {
        name: labels[name] for name in every
    }


@given(st.lists(st.floats(0, 10)))
def test_a_bucket_has_what_is_not_above_its_bound(observed: list[float]) -> None:
    histogram = Histogram(ADDED)
    for seconds in observed:
        histogram.observe(seconds)
    *counts, total = histogram.leaf()
    expected = [bisect_right(sorted(observed), bound) for bound in ADDED.bounds]
    assert list(accumulate(counts)) == [*expected, len(observed)]
    assert total == pytest.approx(sum(observed))


def test_a_replica_and_model_have_one_series() -> None:
    counters = Counters()
    assert isinstance(counters.series["a", "m"], Series)
    assert counters.series["a", "m"] is counters.series["a", "m"]
    assert counters.series["a", "m"] is not counters.series["a", "n"]


def _depth(tree: Tree) -> int:
    return 1 + _depth(next(iter(tree.values()))) if isinstance(tree, dict) else 0
