"""Splits a load for several processes, and merges their results. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import TypeAdapter

from bench.load.run.drive import DriveResult, Ending, Load
from bench.records import Instrument, Schedule

# When the parts ended differently, the whole ended in the first of these that any has.
_GRAVEST = (Ending.INTERRUPTED, Ending.LOST, Ending.RAN_DRY, Ending.COMPLETE)
# What processes send each other: JSON keeps times to the last bit, and takes no surrogates.
LOADS_JSON = TypeAdapter(tuple[Load, ...])
RESULTS_JSON = TypeAdapter(tuple[DriveResult, ...])
# What one process reads at a quarter of a core (`make bench-load`), so that bursts fit in.
PROCESS_CHUNKS_PER_S = 20_000


def processes_for(schedule: Schedule, cores: int) -> int:
    """How many processes suffice for the chunks of all planned answers, `cores` at most.

    This is an upper bound for a closed loop, whose list is longer than what will be sent.
    """
    chunks = sum(request.output_tokens for request in schedule.requests)
    wanted = math.ceil(chunks / schedule.duration_s / PROCESS_CHUNKS_PER_S)
    return max(1, min(wanted, cores, schedule.concurrency or wanted))


def shard(load: Load, index: int, count: int) -> Load:
    """Part `index` of `count`: every request is in exactly one part, at its own time.

    It follows from the schedule alone, so that each process can make its part by itself.
    Requests keep their index. The concurrency of a closed loop is dealt out, and the
    requests in proportion to it. A part may be empty.
    """
    schedule = load.schedule
    mine = [place for place, owner in enumerate(_owners(schedule, count)) if owner == index]
    concurrency, offered_rps = schedule.concurrency, schedule.offered_rps
    part = replace(
        schedule,
        requests=tuple(schedule.requests[place] for place in mine),
        offered_rps=offered_rps and offered_rps * (len(mine) / len(schedule.requests)),
        concurrency=None if concurrency is None else len(range(index, concurrency, count)),
    )
    return replace(
        load,
        schedule=part,
        prompts=[load.prompts[place] for place in mine],
        urls=[load.urls[place] for place in mine],
    )


def merge(parts: Sequence[DriveResult], lost: Sequence[str] = ()) -> DriveResult:
    """The results of the parts of one load as if one process had measured it all.

    `lost` has a line for each part without a result. Raises ValueError without any result.
    """
    endings = {part.ending for part in parts} | ({Ending.LOST} if lost else set())
    samples = [sample for part in parts for sample in part.samples]
    return DriveResult(
        samples=tuple(sorted(samples, key=lambda sample: sample.index)),
        instrument=_merge_instruments([part.instrument for part in parts]),
        started_s=min((p.started_s for p in parts if p.started_s is not None), default=None),
        elapsed_s=max(part.elapsed_s for part in parts),
        ending=next(ending for ending in _GRAVEST if ending in endings),
        lost=tuple(lost),
    )


def _owners(schedule: Schedule, count: int) -> list[int]:
    """The part that each request belongs to.

    Dealt out in rounds, each in an order of its own: with a fixed one a part could get
    all requests of one model, which take turns in a closed loop.
    """
    streams = schedule.concurrency or count
    rounds = -(-len(schedule.requests) // streams)
    rng = np.random.default_rng(int(schedule.sha256, base=16))
    dealt = rng.permuted(np.tile(np.arange(streams) % count, (rounds, 1)), axis=1)
    owners: list[int] = dealt.ravel()[: len(schedule.requests)].tolist()
    return owners


def _merge_instruments(parts: Sequence[Instrument]) -> Instrument:
    """The largest lags and CPU share: one late process spoils what it sent."""
    return Instrument(
        dispatch_lag_p99_s=max(part.dispatch_lag_p99_s for part in parts),
        loop_lag_p99_s=max(part.loop_lag_p99_s or 0.0 for part in parts),
        cpu_share=max(part.cpu_share or 0.0 for part in parts),
        processes=len(parts),
        total_cpu_share=sum(part.cpu_share or 0.0 for part in parts),
    )
