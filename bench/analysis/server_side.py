"""The server's side of an arm's trials: how it loaded its replicas, by their own /metrics.

A gauge keeps its value until it is read again; after a reading that failed it is unknown until
the next one. What is unknown is None, and not 0.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, inf
from operator import attrgetter
from statistics import fmean

from bench.analysis.estimates import percentile
from bench.records import Replica, Role, ServerReading, Trial


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """How a replica was loaded, or all replicas of an arm.

    `requests` are those that the arm sent there. Queue depth (`waiting_*`) and `running_mean`
    are requests in one replica; means are over the time in which load was offered, maxima
    up to the last answer, `kv_cache_usage_max` a share of the cache. All else are counts over
    the trials: `finished` requests and tokens are the replica's own, and so include requests
    that bypassed the arm; `prefix_queries` and `prefix_hits` are prompt tokens looked up and
    found in the prefix cache.
    """

    requests: float | None
    waiting_mean: float | None
    waiting_max: float | None
    running_mean: float | None
    kv_cache_usage_max: float | None
    preemptions: float | None
    prefix_queries: float | None
    prefix_hits: float | None
    prompt_tokens: float | None
    generation_tokens: float | None
    finished: float | None

    @property
    def prefix_hit_rate(self) -> float | None:
        """Prompt tokens found in the prefix cache / looked up there."""
        if self.prefix_hits is None or not self.prefix_queries:
            return None
        return self.prefix_hits / self.prefix_queries


Field = Callable[[ServerReading], float | None]

_COUNTERS = (
    *("preemptions", "prefix_queries", "prefix_hits"),
    *("prompt_tokens", "generation_tokens", "finished"),
)
# How the figures of several trials, or of several replicas, become one.
_POOLED: Mapping[str, Callable[[Sequence[float]], float]] = {
    **dict.fromkeys(("waiting_mean", "running_mean"), fmean),
    **dict.fromkeys(("waiting_max", "kv_cache_usage_max"), max),
    **dict.fromkeys(("requests", *_COUNTERS), fsum),
}


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """A replica's load over an arm's trials, and how its metrics could be read.

    `failed` of `scrapes` brought nothing, the first of them for the reason `error`; the
    others' answers came up to `late_p95_s` after they were due.
    """

    replica: str
    model: str
    load: ServerLoad
    scrapes: int
    failed: int
    late_p95_s: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ServerSummary:
    """The server's side of all judged trials of an arm.

    `imbalance` is the load imbalance factor: requests of the busiest replica / mean over the
    replicas of its model, the largest of any model, mean over trials. 1 is an even split;
    of two replicas it is 2 where one gets everything. `total` is of all replicas together:
    the mean of their means, the highest of their maxima, the sum of their counts. `replicas`
    are all that have served in any of the trials.
    """

    role: Role
    arm: str
    imbalance: float | None
    total: ServerLoad
    replicas: tuple[ReplicaLoad, ...]

    @property
    def scraped(self) -> bool:
        """Whether any replica's metrics were asked for, with or without success."""
        return any(one.scrapes for one in self.replicas)

    def replica(self, name: str) -> ServerLoad:
        """The load of one replica. Raises KeyError where no replica has that name."""
        return {one.replica: one.load for one in self.replicas}[name]

    def share(self, name: str) -> float | None:
        """A replica's requests / those to all replicas of its model."""
        model = {one.replica: one.model for one in self.replicas}[name]
        own = self.replica(name).requests
        of_model = (one.load.requests for one in self.replicas if one.model == model)
        everything = of_all(fsum, of_model)
        return None if own is None or not everything else own / everything


def server_summary(trials: Sequence[Trial]) -> ServerSummary:
    """The server's side of the trials of one arm, of which there is at least one."""
    first = trials[0]
    # In a cluster where arms come by turns, an arm's replicas are others each time.
    loads = [
        {one: _load(trial, one) for one in trial.replicas if one.model in trial.models}
        for trial in trials
    ]
    replicas = tuple(
        _replica_load(
            one,
            [of_trial[one] for of_trial in loads if one in of_trial],
            [reading for trial in trials for reading in _readings(trial, one)],
        )
        for one in dict.fromkeys(one for of_trial in loads for one in of_trial)
    )
    imbalance = of_all(fmean, map(_imbalance, loads))
    total = _pooled([one.load for one in replicas])
    return ServerSummary(first.role, first.arm, imbalance, total, replicas)


def server_notes(summary: ServerSummary) -> Iterator[str]:
    """A line for each replica whose metrics could not always be read."""
    for one in summary.replicas:
        if one.failed:
            yield (
                f"{summary.role} {summary.arm}: {one.failed} of {one.scrapes} scrapes of"
                f" {one.replica} failed ({one.error}); its readings are missing"
            )


def _load(trial: Trial, replica: Replica) -> ServerLoad:
    readings = _readings(trial, replica)

    def level(field: str) -> float | None:
        return mean_level(readings, attrgetter(field), 0.0, trial.duration_s)

    def peak(field: str) -> float | None:
        return highest(readings, attrgetter(field), 0.0, trial.elapsed_s)

    counts = {
        name: increase(readings, attrgetter(name), 0.0, trial.elapsed_s) for name in _COUNTERS
    }
    return ServerLoad(
        requests=_requests(trial, replica, counts["finished"]),
        waiting_mean=level("waiting"),
        waiting_max=peak("waiting"),
        running_mean=level("running"),
        kv_cache_usage_max=peak("kv_cache_usage"),
        **counts,
    )


def _requests(trial: Trial, replica: Replica, finished: float | None) -> float | None:
    """As the answers tell; by the replica's own count where they do not name their replica."""
    answered_by = [sample.replica for sample in trial.samples if sample.ok]
    if answered_by and all(answered_by):
        return Counter(sample.replica for sample in trial.samples)[replica.name]
    bypassed = sum(sample.replica == replica.name for sample in trial.bypassed)
    return None if finished is None else max(0.0, finished - bypassed)


def _imbalance(loads: Mapping[Replica, ServerLoad]) -> float | None:
    """The largest factor of the models that got requests."""
    of_model: dict[str, list[float | None]] = {}
    for replica, load in loads.items():
        of_model.setdefault(replica.model, []).append(load.requests)
    served = (requests for requests in of_model.values() if of_all(fsum, requests) != 0)
    return of_all(
        max, (of_all(lambda counts: max(counts) / fmean(counts), requests) for requests in served)
    )


def _replica_load(
    replica: Replica, loads: Sequence[ServerLoad], readings: Sequence[ServerReading]
) -> ReplicaLoad:
    late_s = [one.at_s - one.due_s for one in readings if one.error is None]
    errors = [one.error for one in readings if one.error is not None]
    return ReplicaLoad(
        replica=replica.name,
        model=replica.model,
        load=_pooled(loads),
        scrapes=len(readings),
        failed=len(errors),
        late_p95_s=percentile(late_s, 95),
        error=errors[0] if errors else None,
    )


def _readings(trial: Trial, replica: Replica) -> tuple[ServerReading, ...]:
    return next((one.readings for one in trial.server if one.replica == replica.name), ())


def _pooled(loads: Sequence[ServerLoad]) -> ServerLoad:
    values = ((name, [getattr(load, name) for load in loads]) for name in _POOLED)
    return ServerLoad(**{name: of_all(_POOLED[name], of_each) for name, of_each in values})


def held(
    readings: Sequence[ServerReading], field: Field, start_s: float, end_s: float
) -> Iterator[tuple[float, float]]:
    """The values of a gauge within [start_s, end_s], and for how many seconds each held."""
    ends_s = itertools.chain((one.at_s for one in readings[1:]), (inf,))
    for reading, until_s in zip(readings, ends_s, strict=False):
        value = field(reading)
        lasted_s = min(until_s, end_s) - max(reading.at_s, start_s)
        if value is not None and lasted_s > 0:
            yield value, lasted_s


def mean_level(
    readings: Sequence[ServerReading], field: Field, start_s: float, end_s: float
) -> float | None:
    """The mean of a gauge over the time for which it is known."""
    values = list(held(readings, field, start_s, end_s))
    known_s = fsum(lasted_s for _, lasted_s in values)
    return fsum(value * lasted_s for value, lasted_s in values) / known_s if values else None


def highest(
    readings: Sequence[ServerReading], field: Field, start_s: float, end_s: float
) -> float | None:
    """The highest value of a gauge that was read or still held in [start_s, end_s]."""
    return max((value for value, _ in held(readings, field, start_s, end_s)), default=None)


def increase(
    readings: Sequence[ServerReading], field: Field, start_s: float, end_s: float
) -> float | None:
    """By how much a counter rose from the last reading before to the first one after.

    None unless there are both. A counter that fell has begun anew at 0, as its replica has.
    """
    known = [(one.at_s, value) for one in readings if (value := field(one)) is not None]
    before = [value for at_s, value in known if at_s <= start_s]
    after = [value for at_s, value in known if at_s >= end_s]
    if not before or not after:
        return None
    inside = [value for at_s, value in known if start_s < at_s < end_s]
    steps = itertools.pairwise([before[-1], *inside, after[0]])
    return fsum(new - old if new >= old else new for old, new in steps)


def of_all(
    function: Callable[[Sequence[float]], float], values: Iterable[float | None]
) -> float | None:
    """The function of the values; None where one is unknown, or there are none."""
    seen = list(values)
    known = [value for value in seen if value is not None]
    return function(known) if known and len(known) == len(seen) else None
