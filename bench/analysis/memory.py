"""What an arm's engines took of their GPUs: before load, and at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from statistics import fmean

from bench.analysis.server_side import of_all
from bench.records import MemoryReading, Role, Trial


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Memory of the GPUs of all the arm's containers or pods together, in GiB; None if unknown.

    `idle_gib` is in use when a trial's load begins, mean over trials. `most_gib` is the sum of the
    most of each container, of the trial where that is highest. `kv_most_gib` has, by engine with
    KVCached, the most that its KV cache took. `failed` of `readings` told not all, the first of
    them for the reason `error`.
    """

    role: Role
    arm: str
    idle_gib: float | None
    most_gib: float | None
    kv_most_gib: Mapping[str, float]
    readings: int
    failed: int
    error: str | None


def memory_use(trials: Sequence[Trial]) -> MemoryUse | None:
    """What the engines took in the trials of one arm; None where that was not to be read."""
    each = [[one.readings for one in trial.memory] for trial in trials if trial.memory]
    every = [one for places in each for readings in places for one in readings]
    if not every:
        return None
    kv_most_gib = dict[str, float]()
    for one in every:
        for engine, gib in one.kv_gib.items():
            kv_most_gib[engine] = max(gib, kv_most_gib.get(engine, 0.0))
    errors = [one.error for one in every if one.error is not None]
    return MemoryUse(
        role=trials[0].role,
        arm=trials[0].arm,
        idle_gib=of_all(fmean, (of_all(fsum, map(_idle_gib, places)) for places in each)),
        most_gib=of_all(max, (of_all(fsum, map(_most_gib, places)) for places in each)),
        kv_most_gib=kv_most_gib,
        readings=len(every),
        failed=len(errors),
        error=errors[0] if errors else None,
    )


def memory_notes(use: MemoryUse) -> Iterator[str]:
    """A line where memory could not always be read."""
    if use.failed:
        yield (
            f"{use.role} {use.arm}: {use.failed} of {use.readings} readings of GPU memory failed"
            f" ({use.error})"
        )


def _idle_gib(readings: Sequence[MemoryReading]) -> float | None:
    """The last that is known from before the load."""
    before = [one.used_gib for one in readings if one.at_s <= 0 and one.used_gib is not None]
    return before[-1] if before else None


def _most_gib(readings: Sequence[MemoryReading]) -> float | None:
    return max((one.used_gib for one in readings if one.used_gib is not None), default=None)
