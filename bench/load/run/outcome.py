"""The result of a drive: its samples, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bench.records import Instrument, Sample


class Ending(StrEnum):
    """How a drive came to its end."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"  # Ctrl-C
    LOST = "lost"  # a load process ended without its result
    RAN_DRY = "ran-dry"  # a closed loop used up its requests before its time


@dataclass(frozen=True, slots=True)
class DriveResult:
    """What was measured. `elapsed_s` is from the start to the last answer or abort.

    `started_s` is the start on the clock of time.monotonic(), from which all other times
    count; None if another program has measured by its own clock.

    `samples` are in the order of the schedule: one for every request of an open loop, or for
    every request that a closed loop came to. Requests that an interrupt kept from being sent
    have none. If several processes shared the load, `lost` has a line for each one whose
    samples are missing.

    After an interrupt nothing is raised: the caller of a drive that ended INTERRUPTED keeps
    the samples, then raises KeyboardInterrupt.
    """

    samples: tuple[Sample, ...]
    instrument: Instrument
    started_s: float | None
    elapsed_s: float
    ending: Ending
    lost: tuple[str, ...] = ()

    @property
    def cut_short(self) -> bool:
        return self.ending is not Ending.COMPLETE
