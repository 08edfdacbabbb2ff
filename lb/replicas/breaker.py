"""Whether a replica that failed gets another chance: a circuit breaker.

Closed, it opens on the third failure in a row, or on one by which half of the latest
outcomes are failures. Open, nothing passes for a while, twice as long after each trial
that fails. Then one request at a time is let through as a trial.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

FAILURES = 3
FIRST_OPEN_S = 1.0
LONGEST_OPEN_S = 30.0
# Half of so many latest outcomes, and what there has to be of them to judge by.
WINDOW = 20
ENOUGH = 10


class State(StrEnum):
    """What a breaker does with requests."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Breaker:
    """State of one replica. Times are on the monotonic clock.

    `open` is an attribute because it is read for every replica and request. `closed_s`
    is when the breaker last closed, -inf if it never opened.

    Each request that is sent has a number, by which its outcome is told. One that was
    sent before the breaker last opened or closed has nothing new to tell.
    """

    open: bool = False
    closed_s: float = -math.inf
    _failures: int = 0  # in a row
    _outcomes: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))  # True: failed
    _open_for_s: float = FIRST_OPEN_S
    _retry_s: float = 0.0
    _sent: int = 0
    _since: int = 0  # numbers up to this have nothing new to tell
    _trial: int = 0  # number of the trial under way, 0: none

    def state(self, now_s: float) -> State:
        """Half-open is when the next request is a trial, or one is under way."""
        if not self.open:
            return State.CLOSED
        return State.HALF_OPEN if self._trial or now_s >= self._retry_s else State.OPEN

    def allows(self, now_s: float) -> bool:
        """Whether a request may be sent now: always while closed, else as a trial."""
        return not self.open or (not self._trial and now_s >= self._retry_s)

    def sent(self, now_s: float) -> int:
        """A request goes out, allowed or not. Returns its number."""
        self._sent += 1
        if self.open and self.allows(now_s):
            self._trial = self._sent
        return self._sent

    def succeeded(self, number: int, now_s: float) -> None:
        """An answer began as it should: whatever was before, the replica works."""
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
        """No answer, a broken one, or one that says that the replica cannot."""
        if number == self._trial:
            self._open_for_s = min(2 * self._open_for_s, LONGEST_OPEN_S)
            self._open(now_s)
        elif not self.open and number > self._since:
            self._failures += 1
            self._outcomes.append(True)
            if self._failures >= FAILURES or self._often():
                self._open(now_s)

    def abandoned(self, number: int) -> None:
        """A request ended without telling anything of the replica: its client left."""
        if number == self._trial:
            self._trial = 0

    def _often(self) -> bool:
        seen = len(self._outcomes)
        return seen >= ENOUGH and 2 * sum(self._outcomes) >= seen

    def _open(self, now_s: float) -> None:
        self.open = True
        self._retry_s = now_s + self._open_for_s
        self._failures = 0
        self._outcomes.clear()
        self._since = self._sent
        self._trial = 0
