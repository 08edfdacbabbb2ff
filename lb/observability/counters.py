"""What the balancer counts; each process counts for itself, and `exposition.merge` adds up."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from lb.observability.exposition import Metric, Tree, Values, put
from lb.observability.metrics import (
    ADDED,
    CHOICES,
    DURATION,
    EJECTIONS,
    FIRST_BYTE,
    IN_FLIGHT,
    QUEUED,
    REFUSALS,
    REQUESTS,
    RETRIES,
    UPSTREAM_ERRORS,
    WAIT,
)


class Histogram:
    """Counts of observations by bucket, and the sum of all observations."""

    def __init__(self, metric: Metric) -> None:
        self._bounds = metric.bounds
        self._counts = [0] * (len(metric.bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def leaf(self) -> list[float]:
        return [*self._counts, self._sum]


class Series:
    """Counts of one model's requests on one replica."""

    def __init__(self) -> None:
        self.requests: defaultdict[int, int] = defaultdict(int)  # by status
        self.choices: defaultdict[str, int] = defaultdict(int)  # by reason
        self.errors: defaultdict[str, int] = defaultdict(int)  # by kind
        self.retries = 0
        self.ejections = 0
        self.in_flight = 0
        self.added = Histogram(ADDED)
        self.first_byte = Histogram(FIRST_BYTE)
        self.duration = Histogram(DURATION)

    def leaves(self) -> Iterator[tuple[Metric, Tree]]:
        yield REQUESTS, {str(status): count for status, count in self.requests.items()}
        yield CHOICES, dict(self.choices)
        yield UPSTREAM_ERRORS, dict(self.errors)
        yield RETRIES, self.retries
        yield EJECTIONS, self.ejections
        yield IN_FLIGHT, self.in_flight
        yield ADDED, self.added.leaf()
        yield FIRST_BYTE, self.first_byte.leaf()
        yield DURATION, self.duration.leaf()


class Queue:
    """Counts of one model's requests that wait because every replica is full."""

    def __init__(self) -> None:
        self.length = 0
        self.wait = Histogram(WAIT)


class Counters:
    """All counts of this process since its start: `series` by replica and model, `queues` by model.

    Replicas and models have to be known ones: clients must not be able to make new series.
    """

    def __init__(self) -> None:
        self.series: defaultdict[tuple[str, str], Series] = defaultdict(Series)
        self.queues: defaultdict[str, Queue] = defaultdict(Queue)
        self._unsent: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._refusals: defaultdict[tuple[int, str], int] = defaultdict(int)

    def unsent(self, model: str, status: int) -> None:
        """A request has ended that no replica got; `model` is "" unless it is known."""
        self._unsent[model, status] += 1

    def refused(self, status: int, code: str) -> None:
        """The balancer has answered with an error of its own."""
        self._refusals[status, code] += 1

    def forget(self, replica: str) -> None:
        """Drop the series of a replica that was removed."""
        for key in [key for key in self.series if key[0] == replica]:
            del self.series[key]

    def snapshot(self) -> Values:
        """All counts by metric, in the form of `lb.observability.exposition`."""
        values: Values = {}
        for (replica, model), series in self.series.items():
            for metric, leaf in series.leaves():
                put(values, (metric.name, replica, model), leaf)
        for model, queue in self.queues.items():
            put(values, (QUEUED.name, model), queue.length)
            put(values, (WAIT.name, model), queue.wait.leaf())
        for (model, status), count in self._unsent.items():
            put(values, (REQUESTS.name, "", model, str(status)), count)
        for (status, code), count in self._refusals.items():
            put(values, (REFUSALS.name, str(status), code), count)
        return values
