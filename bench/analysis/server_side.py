"""From an arm's trials to what is said of the server's side of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from bench.analysis.estimates import percentile
from bench.analysis.readings import (
    Field,
    Values,
    highest,
    increase,
    largest,
    mean,
    mean_level,
    total,
)
from bench.analysis.server import ReplicaLoad, ServerLoad, ServerSummary
from bench.records import Replica, ServerReading, Trial


def server_summary(trials: Sequence[Trial]) -> ServerSummary:
    """The server's side of some trials of one arm, of which there is at least one."""
    first = trials[0]
    # In a cluster where arms come by turns, an arm's replicas are others each time.
    loads = [{one: _load(trial, one) for one in serving(trial)} for trial in trials]
    replicas = tuple(
        _replica_load(
            [trial for trial, of_trial in zip(trials, loads, strict=True) if one in of_trial],
            one,
            [of_trial[one] for of_trial in loads if one in of_trial],
        )
        for one in dict.fromkeys(one for of_trial in loads for one in of_trial)
    )
    return ServerSummary(
        role=first.role,
        arm=first.arm,
        imbalance=mean(map(_imbalance, loads)),
        total=_together([one.load for one in replicas]),
        replicas=replicas,
    )


def serving(trial: Trial) -> tuple[Replica, ...]:
    """The replicas of the models that a trial was about."""
    return tuple(one for one in trial.replicas if one.model in trial.models)


def server_notes(summary: ServerSummary) -> Iterator[str]:
    """A line for each replica whose metrics could not always be read."""
    for one in summary.replicas:
        if one.failed:
            yield (
                f"{summary.role} {summary.arm}: {one.failed} of {one.scrapes} scrapes of"
                f" {one.replica} failed ({one.error}); what they would have told is missing"
            )


def _load(trial: Trial, replica: Replica) -> ServerLoad:
    readings = _readings(trial, replica)

    def rise(field: Field) -> float | None:
        return increase(readings, field, 0.0, trial.elapsed_s)

    finished = rise(attrgetter("finished"))
    return ServerLoad(
        requests=_requests(trial, replica, finished),
        waiting_mean=mean_level(readings, attrgetter("waiting"), 0.0, trial.duration_s),
        waiting_max=highest(readings, attrgetter("waiting"), 0.0, trial.elapsed_s),
        running_mean=mean_level(readings, attrgetter("running"), 0.0, trial.duration_s),
        kv_cache_usage_max=highest(readings, attrgetter("kv_cache_usage"), 0.0, trial.elapsed_s),
        preemptions=rise(attrgetter("preemptions")),
        prefix_queries=rise(attrgetter("prefix_queries")),
        prefix_hits=rise(attrgetter("prefix_hits")),
        prompt_tokens=rise(attrgetter("prompt_tokens")),
        generation_tokens=rise(attrgetter("generation_tokens")),
        finished=finished,
    )


def _requests(trial: Trial, replica: Replica, finished: float | None) -> float | None:
    """As the answers tell; by the replica's own count where they do not name theirs."""
    answered_by = [sample.replica for sample in trial.samples if sample.ok]
    if answered_by and all(answered_by):
        return Counter(sample.replica for sample in trial.samples)[replica.name]
    past = sum(sample.replica == replica.name for sample in trial.bypassed)
    return None if finished is None else max(0.0, finished - past)


def _imbalance(loads: Mapping[Replica, ServerLoad]) -> float | None:
    """The largest factor of any model that got requests."""
    of_model: dict[str, list[float | None]] = {}
    for replica, load in loads.items():
        of_model.setdefault(replica.model, []).append(load.requests)
    return largest(map(_peak_to_mean, (one for one in of_model.values() if total(one) != 0)))


def _peak_to_mean(requests: Sequence[float | None]) -> float | None:
    middle, peak = mean(requests), largest(requests)
    return None if middle is None or peak is None else peak / middle


def _replica_load(
    trials: Sequence[Trial], replica: Replica, loads: Sequence[ServerLoad]
) -> ReplicaLoad:
    readings = [one for trial in trials for one in _readings(trial, replica)]
    late_s = [one.at_s - one.due_s for one in readings if one.error is None]
    errors = [one.error for one in readings if one.error is not None]
    return ReplicaLoad(
        replica=replica.name,
        model=replica.model,
        load=_together(loads),
        scrapes=len(readings),
        failed=len(errors),
        late_p95_s=percentile(late_s, 95),
        error=errors[0] if errors else None,
    )


def _readings(trial: Trial, replica: Replica) -> tuple[ServerReading, ...]:
    return next((one.readings for one in trial.server if one.replica == replica.name), ())


def _together(loads: Sequence[ServerLoad]) -> ServerLoad:
    """Of several trials of a replica, or of several replicas."""

    def each(name: str) -> Values:
        return (getattr(load, name) for load in loads)

    return ServerLoad(
        requests=total(each("requests")),
        waiting_mean=mean(each("waiting_mean")),
        waiting_max=largest(each("waiting_max")),
        running_mean=mean(each("running_mean")),
        kv_cache_usage_max=largest(each("kv_cache_usage_max")),
        preemptions=total(each("preemptions")),
        prefix_queries=total(each("prefix_queries")),
        prefix_hits=total(each("prefix_hits")),
        prompt_tokens=total(each("prompt_tokens")),
        generation_tokens=total(each("generation_tokens")),
        finished=total(each("finished")),
    )
