"""The facts that a run produces, as immutable values.

Everything that crosses a module boundary is one of these. Times are seconds on
the monotonic clock, counted from the start of the trial; names carry the unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

Direction = Literal["lower", "higher"]
Role = Literal["control", "treatment"]


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine instance of a model, as an environment brought it up.

    `name` is unique in the environment (`tiny-llama-0`), `url` has no path.
    """

    model: str
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """A piece of text that prompts have in common within a trial; its seed makes the text."""

    tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of a schedule: when it is due and what it asks for.

    `at_s` is the intended arrival; in a closed loop it is 0.0 and the order counts.
    The prompt begins with its `prefixes`, one after the other; `prompt_tokens` includes
    theirs. `prompt_seed` makes the rest of the text. `tenant` is whom it is sent for, empty
    where there are no tenants.
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
    """What one trial sends. Both arms of a block replay the same ones.

    `concurrency` is None for an open loop; otherwise so many requests are kept in
    flight until `duration_s` is over. `offered_rps` is None for a closed loop.
    """

    requests: tuple[PlannedRequest, ...]
    duration_s: float
    offered_rps: float | None
    concurrency: int | None
    sha256: str


class ErrorKind(StrEnum):
    """Why a request did not succeed: a kind for each remedy."""

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
    """One request as it went.

    `scheduled_s` is the intended arrival (closed loop: when an earlier request has
    ended), `sent_s` is taken just before the HTTP write, `first_token_s` at the first
    chunk with non-empty content, `last_token_s` at the last one. `chunk_s` holds the
    arrival of every content chunk. Token counts come from the server's usage.
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


def fail_incomplete(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples of one trial, with every incomplete answer as a failed request.

    Every request asks for an exact number of tokens, so that an answer with fewer is not
    complete, whatever its finish reason. The server's token count comes last in a stream: where
    some answers have one, an answer without one broke off before its end.
    """
    counted = any(sample.output_tokens is not None for sample in samples)

    def checked(sample: Sample) -> Sample:
        tokens, wanted = sample.output_tokens, sample.wanted_output_tokens
        if sample.ok and tokens is None and counted:
            why = "the stream ended without token usage"
            return replace(sample, error=ErrorKind.TRUNCATED, detail=why)
        if sample.ok and tokens is not None and tokens < wanted:
            return replace(sample, error=ErrorKind.SHORT, detail=f"{tokens} of {wanted} tokens")
        return sample

    return tuple(map(checked, samples))


@dataclass(frozen=True, slots=True)
class Spread:
    """How `n` durations are spread, in seconds."""

    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float
    n: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far the client's timings were off at so many open streams: sizes of the errors.

    Measured against a source that tells when it sent each chunk. TTFT and E2E cannot come
    out too short; both hold the way to the source and back, and its own waking up.
    """

    streams: int
    ttft: Spread
    itl: Spread
    e2e: Spread


@dataclass(frozen=True, slots=True)
class Instrument:
    """How well the load generator did its own work in one trial.

    `dispatch_lag_p99_s`: sent − scheduled over all requests (open loop), 99th
    percentile. `loop_lag_p99_s`: lateness of a periodic timer on the event loop.
    `cpu_share`: CPU seconds of the client per wall second. Where several `processes` shared
    the load these are the worst of them, and `total_cpu_share` is that of all together.

    `foreign_cpu_share` of the CPU time of all cores went to processes that are neither the
    bench's nor its engines' and balancers', `stolen_cpu_share` to other guests of the
    machine's host; None where that cannot be known. `accuracy` is that of the run's start.

    `loop_lag_p99_s` and `cpu_share` are None where another program made the load, which
    reports neither. `start_apart_s` is the longest time between the starts of two processes;
    None where they share a clock, and began at one instant.
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
    """What the /metrics of one replica said at one instant of a trial.

    `due_s` is when it was to be asked, `at_s` when its answer came; both may lie before the
    trial's start or after its end. What it did not say is None, and never 0; `error` tells
    why it said nothing.

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


Connections = Literal["kept", "per-request"]
"""Whether a connection serves one request after the other, or one only."""


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """What made the load of a trial.

    `notes` say, a line each, what it defines, does or leaves out differently from the
    built-in driver.
    """

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
    """Under which a mapping of objectives has those of a tenant's requests to a model."""
    return f"{model}@{tenant}" if tenant else model


class Expectation(StrEnum):
    """What a scenario expects of the treatment."""

    BETTER = "better"
    NOT_WORSE = "not-worse"


@dataclass(frozen=True, slots=True)
class ScenarioFacts:
    """The part of a scenario that judging needs; stored with every trial.

    `metrics` are all that are reported, the primary one first. `slos` holds the
    objectives of a request by the model it is sent to and, where there are `tenants`,
    theirs by `slo_key`. `alpha` is the two-sided error rate of one look.

    Where the load itself is searched for, trials of a block differ in it: by the factor
    `search_step` or more. None where all trials offer the same.
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


@dataclass(frozen=True, slots=True)
class Trial:
    """One arm's run of one scenario: the unit of replication.

    `position` is the place in the block's order, from 0. `duration_s` is the offered
    window; `elapsed_s` includes the drain. `dead_replicas` names
    engines that were found dead after the trial. `server` is what the replicas said of
    themselves meanwhile. `due` is the order of the block's trials where it was drawn, empty
    where it follows from the block's index. `round` is 1, and 2 where a comparison that failed
    is measured once more. `capacity_rps` is what the replicas could serve per second
    before the block, to which loads relate; `capacity_after_rps` the same after the last trial.
    `provenance` is free-form JSON: versions, weights kind, CPU, options,
    commit.

    `samples` are the requests that the arm was to serve. `bypassed` are those that bypassed it
    and went straight to a replica, as a condition under which the arm is measured: they must
    have been sent and answered, but what they took is in none of the arm's metrics.
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
    dead_replicas: tuple[str, ...] = ()
    cut_short: bool = False
    due: tuple[Role, ...] = ()
    round: int = 1
    capacity_rps: float | None = None
    capacity_after_rps: float | None = None
    driver: DriverFacts = DriverFacts()
    connections: Connections = "kept"
    provenance: dict[str, Any] = field(default_factory=dict)


class Verdict(StrEnum):
    """What the evidence says of treatment against control."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"  # the instrument, not the system, failed


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one scenario, control against treatment.

    `ratio` is treatment / control (geometric mean over blocks) with its confidence
    interval [`low`, `high`]; None where the data did not allow one. `control_value`
    and `treatment_value` are medians over blocks of the per-block values. `tenant` is set
    where only that tenant's requests are compared. `control_failed` and `treatment_failed` are
    the shares of the requests that failed, those that bypassed the arm among them; None where
    there were none.
    """

    scenario: str
    models: tuple[str, ...]
    metric: str
    unit: str
    direction: Direction
    primary: bool
    control: str
    treatment: str
    control_value: float | None
    treatment_value: float | None
    ratio: float | None
    low: float | None
    high: float | None
    blocks: int
    alpha: float
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    tenant: str = ""
    control_failed: float | None = None
    treatment_failed: float | None = None


class SloOutcome(StrEnum):
    """Whether the objectives were attained; undecided when noise spans the target."""

    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"
    UNSET = "unset"


@dataclass(frozen=True, slots=True)
class SloResult:
    """Attainment of one arm and model: met / all attempted, mean over blocks, interval."""

    scenario: str
    model: str
    role: Role
    arm: str
    target: float
    attainment: float | None
    low: float | None
    high: float | None
    outcome: SloOutcome
    slo: Slo
    tenant: str = ""
