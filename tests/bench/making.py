"""Trials and samples with known timings, for tests of what judges and stores them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.analysis.blocks import order
from bench.records import (
    Accuracy,
    ErrorKind,
    Expectation,
    Instrument,
    Replica,
    Role,
    Sample,
    ScenarioFacts,
    ServerReading,
    ServerSeries,
    Slo,
    Spread,
    Trial,
    role_number,
    roles_for,
)

REPLICAS = (
    Replica("tiny-llama", "tiny-llama-0", "http://127.0.0.1:8100"),
    Replica("tiny-llama", "tiny-llama-1", "http://127.0.0.1:8101"),
)
OFF = Spread(p50_s=0.0002, p95_s=0.0005, p99_s=0.001, max_s=0.002, n=32)
ACCURACY = Accuracy(streams=16, ttft=OFF, itl=OFF, e2e=OFF)
INSTRUMENT = Instrument(
    dispatch_lag_p99_s=0.002,
    loop_lag_p99_s=0.003,
    cpu_share=0.2,
    foreign_cpu_share=0.01,
    stolen_cpu_share=0.0,
    accuracy=ACCURACY,
)
MODELS = ("tiny-llama", "tiny-qwen", "tiny-mistral")
ARMS: dict[Role, str] = {"control": "baseline", "treatment": "managed"}
GAUGES = {"waiting", "running", "kv_cache_usage"}
FACTS = ScenarioFacts(
    name="heavy-tail",
    primary="scheduled_ttft_p95_s",
    metrics=("scheduled_ttft_p95_s", "output_tps"),
    expect=Expectation.BETTER,
    slos=dict.fromkeys(MODELS, Slo(ttft_s=1.0, attainment=0.9)),
)


def answered(index: int, ttft_s: float, **changes: Any) -> Sample:
    """A request sent on time and answered with 5 tokens: after `ttft_s`, then every 10 ms."""
    at_s = 0.1 * index
    chunks = tuple(at_s + ttft_s + 0.01 * step for step in range(5))
    sample = Sample(
        index=index,
        model="tiny-llama",
        scheduled_s=at_s,
        sent_s=at_s,
        first_token_s=chunks[0],
        last_token_s=chunks[-1],
        chunk_s=chunks,
        wanted_prompt_tokens=16,
        wanted_output_tokens=5,
        prompt_tokens=16,
        output_tokens=5,
        replica=REPLICAS[index % 2].name,
        status=200,
        error=None,
        detail=None,
    )
    return replace(sample, **changes)


def failed(index: int, error: ErrorKind = ErrorKind.STATUS, **changes: Any) -> Sample:
    """A request that was sent and got an error instead of tokens."""
    nothing: dict[str, Any] = {"first_token_s": None, "last_token_s": None, "chunk_s": ()}
    counts = {"prompt_tokens": None, "output_tokens": None}
    told = {"status": 500, "error": error, "detail": "out of luck"}
    return answered(index, 0.0, **(nothing | counts | told | changes))


def trial(
    role: Role, block: int, position: int, samples: Sequence[Sample], **changes: Any
) -> Trial:
    """A trial without fault that sent `samples` in a window of 10 s."""
    made = Trial(
        run_id="20260131-235959-a1b2",
        arm=ARMS.get(role, f"arm-{role_number(role)}"),
        role=role,
        environment="local",
        scenario=FACTS,
        models=("tiny-llama",),
        block=block,
        position=position,
        seed=7,
        schedule_sha256=f"{block:064x}",
        offered_rps=10.0,
        concurrency=None,
        duration_s=10.0,
        elapsed_s=11.5,
        replicas=REPLICAS,
        samples=tuple(samples),
        instrument=INSTRUMENT,
    )
    return replace(made, **changes)


def measured_factors(*ttfts_s: float, blocks: int = 4) -> list[Trial]:
    """Trials of four arms with the levels of factors `width` and `policy`, and these TTFTs.

    All differ a little from block to block.
    """
    each = [[ttft_s * (1 + 0.02 * (block % 2)) for block in range(blocks)] for ttft_s in ttfts_s]
    levels = [{"width": one, "policy": other} for one in ("4", "8") for other in ("turn", "queue")]
    facts = replace(FACTS, alpha=0.01 / 3)
    return [
        replace(one, scenario=facts, levels=levels[role_number(one.role)]) for one in several(each)
    ]


def with_readings(of: Trial, read: Mapping[str, Sequence[float]]) -> Trial:
    """The trial with replicas that were read: each field with a value for each replica.

    Gauges have it all the time; counters rise by it from 1000 within the trial.
    """
    times_s = (-0.1, *(0.25 * step for step in range(1, 46)), of.elapsed_s + 0.1)

    def reading(place: int, at_s: float) -> ServerReading:
        gone = min(1.0, max(0.0, at_s / of.elapsed_s))
        fields: dict[str, Any] = {
            field: values[place] if field in GAUGES else 1000 + values[place] * gone
            for field, values in read.items()
        }
        return ServerReading(due_s=at_s - 0.002, at_s=at_s, **fields)

    return replace(
        of,
        server=tuple(
            ServerSeries(replica.name, tuple(reading(place, at_s) for at_s in times_s))
            for place, replica in enumerate(of.replicas)
        ),
    )


def paired(control_s: Iterable[float], treatment_s: Iterable[float], n: int = 40) -> list[Trial]:
    """Complete blocks in which every request of an arm has the given TTFT of that block."""
    return several([control_s, treatment_s], n)


def several(arms_s: Sequence[Iterable[float]], n: int = 40) -> list[Trial]:
    """The same of any number of arms, the control first."""
    made = []
    roles = roles_for(len(arms_s))
    for block, ttfts_s in enumerate(zip(*arms_s, strict=True)):
        of_role = dict(zip(roles, ttfts_s, strict=True))
        planned = order(block, roles)
        for position, role in enumerate(planned):
            samples = [answered(index, of_role[role]) for index in range(n)]
            due = planned if len(roles) > 2 else ()
            made.append(trial(role, block, position, samples, due=due))
    return made
