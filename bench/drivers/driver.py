"""What every driver offers to the rest of the suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bench.load.run.drive import Load
from bench.load.run.outcome import DriveResult
from bench.records import DriverFacts


@dataclass(frozen=True, slots=True)
class Driven:
    """What was measured, and what is to be known of the driver that measured it."""

    result: DriveResult
    facts: DriverFacts


class Driver(Protocol):
    """Sends loads, one after the other."""

    def run(self, load: Load, *, drain_timeout_s: float) -> Driven:
        """Send `load`; what is unanswered `drain_timeout_s` after its window is a TIMEOUT.

        Raises UserError with one line where the driver cannot send this load, or fails.
        """
        ...
