"""What the source has streamed, as it can be asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic


@dataclass(slots=True)
class Tally:
    """Streams and their chunks since the tally was last taken.

    Streams that were left early are `begun` only. `open_most` is the greatest number that
    were open at once. `first_s` is when the first one began and `last_s` when the last one
    ended, of time.monotonic(); `open_s` is how long those that ended were open, in sum.
    """

    begun: int = 0
    complete: int = 0
    chunks: int = 0
    open_now: int = 0
    open_most: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    open_s: float = 0.0

    def begin(self) -> float:
        """A stream begins: when, which `end` wants to know."""
        now_s = monotonic()
        if not self.begun:
            self.first_s = now_s
        self.begun += 1
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        return now_s

    def end(self, begun_s: float, *, complete: bool) -> None:
        self.open_now -= 1
        self.complete += complete
        self.last_s = monotonic()
        self.open_s += self.last_s - begun_s

    def take(self) -> Tally:
        """What it says, after which it counts anew."""
        taken = replace(self)
        self.begun = self.complete = self.chunks = 0
        self.open_s = 0.0
        self.open_most = self.open_now
        return taken
