"""Whether a replica that failed gets another chance: a circuit breaker.

Closed, it counts failures in a row. Open, nothing passes for a while, twice as long after
each trial that fails. Then one request at a time is let through as a trial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

FAILURES = 3
FIRST_OPEN_S = 1.0
LONGEST_OPEN_S = 30.0


class State(StrEnum):
    """What a breaker does with requests."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Breaker:
    """State of one replica. Times are on the monotonic clock."""

    closed_s: float = -math.inf  # when it last closed
    _failures: int = 0
    _open_for_s: float = FIRST_OPEN_S
    _retry_s: float | None = None  # None: closed
    _trying: bool = False

    @property
    def closed(self) -> bool:
        return self._retry_s is None

    def state(self, now_s: float) -> State:
        """Half-open is when the next request is a trial, or one is under way."""
        if self._retry_s is None:
            return State.CLOSED
        return State.HALF_OPEN if self._trying or now_s >= self._retry_s else State.OPEN

    def allows(self, now_s: float) -> bool:
        """Whether a request may be sent now: always while closed, else as a trial."""
        return self._retry_s is None or (not self._trying and now_s >= self._retry_s)

    def sent(self) -> None:
        """A request goes out; while open, it is the trial."""
        self._trying = self._retry_s is not None

    def succeeded(self) -> None:
        """An answer began as it should: whatever was before, the replica works."""
        self._failures = 0
        self._trying = False
        self._retry_s = None
        self._open_for_s = FIRST_OPEN_S

    def failed(self, now_s: float) -> None:
        self._failures += 1
        if self._retry_s is not None:
            if self._trying:
                self._open_for_s = min(2 * self._open_for_s, LONGEST_OPEN_S)
                self._open(now_s)
        elif self._failures >= FAILURES:
            self._open(now_s)

    def abandoned(self) -> None:
        """A request ended without telling anything of the replica: its client left."""
        self._trying = False

    def _open(self, now_s: float) -> None:
        self._trying = False
        self._retry_s = now_s + self._open_for_s
