"""The facts that a run produces, as immutable values.

Times are seconds on the monotonic clock, counted from the start of the trial.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

Direction = Literal["lower", "higher"]
Role = str
"""What an arm is in a comparison: `control` or `treatment`; further ones are `treatment-2`, ..."""

_ROLE = re.compile(r"control|treatment(?:-([2-9]|[1-9]\d+))?")


def roles_for(arms: int) -> tuple[Role, ...]:
    """The roles of so many arms, the control first."""
    return ("control", "treatment", *(f"treatment-{number}" for number in range(2, arms)))[:arms]


def role_number(role: Role) -> int:
    """The place of a role among all, from 0, the control's. Raises ValueError if it is none."""
    found = _ROLE.fullmatch(role)
    if found is None:
        raise ValueError(f"{role!r} is no role: control, treatment, treatment-2 and so on")
    return 0 if role == "control" else int(found[1] or 1)


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine instance of a model, as an environment brought it up.

    `name` is unique in the environment (`tiny-llama-0`). `url` is where its API begins, without
    `/v1`. Its metrics are at `metrics_url`, or else at `url`/metrics. Balancers reach it at
    `balancer_url`, or else at `url`.
    """

    model: str
    name: str
    url: str
    metrics_url: str = ""
    balancer_url: str = ""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of several prompts of a trial; the text is made from `seed`."""

    tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of a schedule: when it is due and what it asks for.

    `at_s` is the intended arrival; in a closed loop it is 0.0 and the order counts.
    The prompt begins with its `prefixes`, one after the other; `prompt_tokens` includes
    theirs. The rest of the text is made from `prompt_seed`. `tenant` is empty where there are no
    tenants.
    """

    index: int
    at_s: float
    model: str
    prompt_tokens: int
    output_tokens: int
    prompt_seed: int
    prefixes: tuple[Prefix, ...] = ()
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The requests of one trial. All arms of a block replay the same schedules.

    `concurrency` is None for an open loop; in a closed loop so many requests are kept in flight
    until `duration_s` is over. `offered_rps` is None for a closed loop.
    """

    requests: tuple[PlannedRequest, ...]
    duration_s: float
    offered_rps: float | None
    concurrency: int | None
    sha256: str


class ErrorKind(StrEnum):
    """Why a request did not succeed."""

    CLIENT = "client"  # never sent: this machine has no open file or port left for it
    RESOLVE = "resolve"  # the name has no address
    CONNECT = "connect"  # refused, unreachable
    DISCONNECT = "disconnect"  # the connection broke before the answer was complete
    TIMEOUT = "timeout"  # the trial's deadline passed; the client aborted it
    RATE_LIMITED = "rate-limited"  # HTTP 429
    UNAVAILABLE = "unavailable"  # HTTP 503
    STATUS = "status"  # any other HTTP status than 200
    PROTOCOL = "protocol"  # not HTTP, not server-sent events, not JSON
    SERVER = "server"  # an error event inside the stream
    ABORTED = "aborted"  # the server's finish reason says that it did not finish
    SHORT = "short"  # fewer tokens than were asked for
    TRUNCATED = "truncated"  # the stream ended without a finish reason, [DONE] or token usage
    EMPTY = "empty"  # a complete answer without any content


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and its answer, as measured.

    `scheduled_s` is the intended arrival (closed loop: the end of an earlier request), `sent_s`
    the time just before the HTTP write, `first_token_s` and `last_token_s` the arrivals of the
    first and the last chunk with non-empty content, `chunk_s` those of all such chunks. Token
    counts come from the server's usage.
    """

    index: int
    model: str
    scheduled_s: float
    wanted_prompt_tokens: int
    wanted_output_tokens: int
    sent_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    chunk_s: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    replica: str | None = None
    status: int | None = None
    error: ErrorKind | None = None
    detail: str | None = None
    tenant: str = ""

    @property
    def ok(self) -> bool:
        return self.error is None


def fail_incomplete(samples: Sequence[Sample], *, exact: bool = True) -> tuple[Sample, ...]:
    """The samples of one trial, with every incomplete answer as a failed request.

    Where requests ask for an `exact` number of tokens, an answer with fewer is not complete,
    whatever its finish reason. The server's token count comes last in a stream: where some answers
    have one, an answer without one broke off before its end.
    """
    counted = any(sample.output_tokens is not None for sample in samples)

    def checked(sample: Sample) -> Sample:
        tokens, wanted = sample.output_tokens, sample.wanted_output_tokens
        if sample.ok and tokens is None and counted:
            why = "the stream ended without token usage"
            return replace(sample, error=ErrorKind.TRUNCATED, detail=why)
        if exact and sample.ok and tokens is not None and tokens < wanted:
            return replace(sample, error=ErrorKind.SHORT, detail=f"{tokens} of {wanted} tokens")
        return sample

    return tuple(map(checked, samples))


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles and the maximum of `n` durations, in seconds."""

    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float
    n: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The absolute errors of the client's timings at so many open streams.

    They are measured against a source that reports when it sent each chunk. Those of TTFT and
    E2E include the way to the source and back, and the source's own delay.
    """

    streams: int
    ttft: Spread
    itl: Spread
    e2e: Spread


@dataclass(frozen=True, slots=True)
class Instrument:
    """How well the load generator did its own work in one trial.

    `dispatch_lag_p99_s`: sent − scheduled over all requests (open loop), 99th percentile.
    `loop_lag_p99_s`: lateness of a periodic timer on the event loop. `cpu_share`: CPU seconds of
    the client per wall second. Both are None where another program sent the load. Where several
    `processes` shared it, these are the worst of them, and `total_cpu_share` is of all together.

    Of the CPU time of all cores, `foreign_cpu_share` went to processes other than the bench's,
    its engines' and balancers', and `stolen_cpu_share` to other guests of the machine's host;
    None where that is not known. `accuracy` was measured at the run's start. `start_apart_s` is
    the longest time between the starts of two processes; None where they share a clock.
    """

    dispatch_lag_p99_s: float
    loop_lag_p99_s: float | None
    cpu_share: float | None
    foreign_cpu_share: float | None = None
    stolen_cpu_share: float | None = None
    accuracy: Accuracy | None = None
    processes: int = 1
    total_cpu_share: float | None = None
    start_apart_s: float | None = None


@dataclass(frozen=True, slots=True)
class ServerReading:
    """The /metrics of one replica at one instant of a trial.

    `due_s` is when they were to be read, `at_s` when the answer came; both may be before the
    trial's start or after its end. A value that is not in the answer is None, and never 0;
    `error` is the reason why there was no answer.

    `running` and `waiting` are requests, `kv_cache_usage` a share in [0, 1]. The rest are
    counters since the engine's start: `preemptions`, `finished` requests (aborted ones
    included), tokens processed, and tokens looked up (`prefix_queries`) and found
    (`prefix_hits`) in the prefix cache.
    """

    due_s: float
    at_s: float
    running: float | None = None
    waiting: float | None = None
    kv_cache_usage: float | None = None
    preemptions: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    finished: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ServerSeries:
    """The readings of one replica through a trial, in the order in which they were due."""

    replica: str
    readings: tuple[ServerReading, ...]


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Memory of the GPUs of one container or pod at one instant of a trial.

    `used_gib` is what is in use, whoever has it (nvidia-smi). `kv_gib` has, by engine, what its KV
    cache takes now, of engines with KVCached (kvctl). `error` is the reason why one is unknown.
    """

    at_s: float
    used_gib: float | None = None
    kv_gib: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class MemorySeries:
    """The readings of one container or pod through a trial, in the order of time."""

    place: str
    readings: tuple[MemoryReading, ...]


Connections = Literal["kept", "per-request"]
"""Whether connections serve one request after the other, or one only."""


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """The driver of a trial. `notes` are lines on how it differs from the built-in driver."""

    name: str = "builtin"
    version: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slo:
    """Objectives of one request, and the share of requests that must meet them.

    None means that the objective is not set. `attainment` is in (0, 1].
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    attainment: float = 0.9


def slo_key(model: str, tenant: str) -> str:
    """The key of a tenant's requests to a model in a mapping of objectives."""
    return f"{model}@{tenant}" if tenant else model


class Expectation(StrEnum):
    """What a scenario expects of the treatment."""

    BETTER = "better"
    NOT_WORSE = "not-worse"


@dataclass(frozen=True, slots=True)
class ScenarioFacts:
    """The part of a scenario that judging needs; stored with every trial.

    `metrics` are all that are reported, the primary one first. `slos` has the objectives of
    requests by `slo_key`: of each model, and of each of the `tenants`. `alpha` is the two-sided
    error rate of one look.

    Where the load itself is searched for, the loads of a block's trials differ by the factor
    `search_step` or more; None where all trials offer the same load. With `overload` more is sent
    than can be served: what an arm rejects (429) fails, but is no fault of the measurement.
    """

    name: str
    primary: str
    metrics: tuple[str, ...]
    expect: Expectation
    slos: Mapping[str, Slo]
    alpha: float = 0.01
    description: str = ""
    search_step: float | None = None
    tenants: tuple[str, ...] = ()
    overload: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One arm's run of one scenario: the unit of replication.

    `position` is the place in the block's order, from 0. `duration_s` is the offered window;
    `elapsed_s` includes the drain. `dead_replicas` are those that were found dead after the
    trial, `server` the readings of the replicas' /metrics. `due` is the order of the block's
    trials where it was drawn or there are several treatments, empty where it follows from the
    block's index. `round` is 2 where a comparison that failed is measured once more.
    `capacity_rps` is the capacity before the block, to which loads relate; `capacity_after_rps`
    that after the last trial. `levels` has the arm's level of each factor in a factorial run.
    `memory` is that of the engines' GPUs, where engines share one or an arm has KVCached.
    `engines` differs between trials that different engines served, or the same after another
    start; it is empty where all arms have the same. `provenance` is free-form JSON: versions,
    weights, CPU, options, commit.

    `samples` are the requests that the arm was to serve. `bypassed` are those that went straight
    to a replica, as a condition of the scenario; they are in none of the arm's metrics. With
    `exact_prompts` prompts were made of an exact number of tokens; with `exact_answers` answers
    had to have the number that was asked for.
    """

    run_id: str
    arm: str
    role: Role
    environment: str
    scenario: ScenarioFacts
    models: tuple[str, ...]
    block: int
    position: int
    seed: int
    schedule_sha256: str
    offered_rps: float | None
    concurrency: int | None
    duration_s: float
    elapsed_s: float
    replicas: tuple[Replica, ...]
    samples: tuple[Sample, ...]
    instrument: Instrument
    bypassed: tuple[Sample, ...] = ()
    server: tuple[ServerSeries, ...] = ()
    memory: tuple[MemorySeries, ...] = ()
    dead_replicas: tuple[str, ...] = ()
    cut_short: bool = False
    due: tuple[Role, ...] = ()
    round: int = 1
    capacity_rps: float | None = None
    capacity_after_rps: float | None = None
    driver: DriverFacts = DriverFacts()
    connections: Connections = "kept"
    exact_prompts: bool = True
    exact_answers: bool = True
    levels: Mapping[str, str] = field(default_factory=dict)
    engines: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
