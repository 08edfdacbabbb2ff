"""A circuit breaker for each replica.

It opens at the third failure in a row, or when half of the latest outcomes are failures. While
it is open the replica gets no requests. Then one request at a time is sent as a trial: if that
fails the breaker stays open, twice as long as before; if not, it closes.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

FAILURES = 3
FIRST_OPEN_S = 1.0
LONGEST_OPEN_S = 30.0
# How many of the latest outcomes count, and how many there have to be.
WINDOW = 20
ENOUGH = 10


class State(StrEnum):
    """HALF_OPEN: the next request is a trial, or one is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Breaker:
    """The breaker of one replica. Times are on the monotonic clock.

    `open` is an attribute because it is read for every replica and request. `closed_s` is when
    the breaker last closed, -inf if it never opened. Requests are numbered: the outcome of one
    that was sent before the breaker last opened or closed does not count.
    """

    open: bool = False
    closed_s: float = -math.inf
    _failures: int = 0  # in a row
    _outcomes: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))  # True: failed
    _open_for_s: float = FIRST_OPEN_S
    _retry_s: float = 0.0
    _sent: int = 0
    _since: int = 0  # outcomes of requests up to this number do not count
    _trial: int = 0  # number of the trial under way, 0: none

    def state(self, now_s: float) -> State:
        if not self.open:
            return State.CLOSED
        return State.HALF_OPEN if self._trial or now_s >= self._retry_s else State.OPEN

    def allows(self, now_s: float) -> bool:
        """Whether a request may be sent now, be it as a trial."""
        return not self.open or (not self._trial and now_s >= self._retry_s)

    def sent(self, now_s: float) -> int:
        """A request is sent, allowed or not. Returns its number."""
        self._sent += 1
        if self.open and self.allows(now_s):
            self._trial = self._sent
        return self._sent

    def succeeded(self, number: int, now_s: float) -> None:
        """An answer has begun: the replica works."""
        if number <= self._since:
            return
        if self.open:
            self.open = False
            self.closed_s = now_s
            self._open_for_s = FIRST_OPEN_S
            self._trial = 0
            self._since = number - 1
        self._failures = 0
        self._outcomes.append(False)

    def failed(self, number: int, now_s: float) -> None:
        """There was no answer, a broken one, or one with a status from 500 on."""
        if number == self._trial:
            self._open_for_s = min(2 * self._open_for_s, LONGEST_OPEN_S)
            self._open(now_s)
        elif not self.open and number > self._since:
            self._failures += 1
            self._outcomes.append(True)
            if self._failures >= FAILURES or self._half_failed():
                self._open(now_s)

    def abandoned(self, number: int) -> None:
        """A request ended before the replica answered or failed: its client left, say."""
        if number == self._trial:
            self._trial = 0

    def _half_failed(self) -> bool:
        seen = len(self._outcomes)
        return seen >= ENOUGH and 2 * sum(self._outcomes) >= seen

    def _open(self, now_s: float) -> None:
        self.open = True
        self._retry_s = now_s + self._open_for_s
        self._failures = 0
        self._outcomes.clear()
        self._since = self._sent
        self._trial = 0
