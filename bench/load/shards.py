"""A load in parts for several processes, and their results as one. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.load.drive import Load
from bench.load.outcome import DriveResult, Ending
from bench.records import Instrument, Schedule

# What the end of the whole is when the ends of its parts differ: the first that any has.
_GRAVEST = (Ending.INTERRUPTED, Ending.LOST, Ending.RAN_DRY, Ending.COMPLETE)
# What one process reads at a quarter of a core (`make bench-load`), so that bursts fit in.
PROCESS_CHUNKS_PER_S = 20_000


def processes_for(schedule: Schedule, cores: int) -> int:
    """How many processes suffice: by the chunks that answers of the planned length bring.

    For a closed loop, whose list is longer than what will be sent, this is an upper bound.
    """
    chunks = sum(request.output_tokens for request in schedule.requests)
    wanted = math.ceil(chunks / schedule.duration_s / PROCESS_CHUNKS_PER_S)
    return max(1, min(wanted, cores, schedule.concurrency or wanted))


def shard(load: Load, index: int, count: int) -> Load:
    """Part `index` of `count`: every request is in exactly one part, at its own time.

    Follows from the schedule alone, so that each process can cut its part by itself.
    Requests keep their index. The slots of a closed loop are dealt out, and each part
    gets as many requests for a slot as the others. A part may be empty.
    """
    schedule = load.schedule
    mine = [place for place, owner in enumerate(_owners(schedule, count)) if owner == index]
    slots, offered_rps = schedule.concurrency, schedule.offered_rps
    part = replace(
        schedule,
        requests=tuple(schedule.requests[place] for place in mine),
        offered_rps=offered_rps and offered_rps * (len(mine) / len(schedule.requests)),
        concurrency=None if slots is None else len(range(index, slots, count)),
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
    slots = schedule.concurrency or count
    rounds = -(-len(schedule.requests) // slots)
    rng = np.random.default_rng(int(schedule.sha256, base=16))
    dealt = rng.permuted(np.tile(np.arange(slots) % count, (rounds, 1)), axis=1)
    owners: list[int] = dealt.ravel()[: len(schedule.requests)].tolist()
    return owners


def _merge_instruments(parts: Sequence[Instrument]) -> Instrument:
    """The worst of the lags, and of all processes: one that is late spoils what it sent."""
    return Instrument(
        dispatch_lag_p99_s=max(part.dispatch_lag_p99_s for part in parts),
        loop_lag_p99_s=max(part.loop_lag_p99_s or 0.0 for part in parts),
        cpu_share=max(part.cpu_share or 0.0 for part in parts),
        processes=len(parts),
        total_cpu_share=sum(part.cpu_share or 0.0 for part in parts),
    )
