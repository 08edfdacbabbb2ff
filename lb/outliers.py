"""Replicas that refuse what others accept: outlier detection by status.

A refusal is an answer by which the replica says that it will not, as opposed to that it
cannot. One that every replica gives is the client's fault, one that a single replica gives
is that replica's. Counting does not tell them apart, since clients' faults come in rows, too:
what was refused is tried on another replica. That costs the engine nothing, since it has
not begun.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto

from lb.breaker import FIRST_OPEN_S, LONGEST_OPEN_S

# So many refusals in a row are compared; twice as many each time that others refused as
# well, so that a client that is always wrong is not tried twice for ever.
SUSPICIOUS = 3
MOST_SUSPICIOUS = 24
# A comparison is forgotten after so long.
REMEMBERED_S = 60.0


# How a body begins that is an error in spite of its status: vLLM has sent the head of a
# stream before it looks at the request.
_ERRORS = (
    *(b'{"error"', b'{"object":"error"', b'{"type":"error"', b"event: error"),
    *(b'data: {"error"', b'data: {"object":"error"', b'data: {"type":"error"'),
)


def is_refusal(status: int) -> bool:
    """Redirections, and what blames the client."""
    return 300 <= status < 500


def status_of(status: int, beginning: bytes) -> int:
    """400 for a 200 whose body begins as an error does, else `status`."""
    return 400 if status == 200 and beginning.startswith(_ERRORS) else status


class Advice(Enum):
    """What to do with an answer."""

    PASS = auto()  # it is the client's
    COMPARE = auto()  # try the request on another replica, and tell what that answers
    RETRY = auto()  # the replica is suspended: another one may accept it


@dataclass(slots=True)
class _Refusals:
    """Of requests for one model, by one replica, which is suspended until `until_s`.

    It is while a refusal is compared, while it is `ejected` because another has accepted
    what it refused, and while its trial is under way.
    """

    ejected: bool = False
    until_s: float = -math.inf
    in_a_row: int = 0
    status: int = 0  # of the one that is compared
    suspicious: int = SUSPICIOUS
    compared_s: float = -math.inf
    ejected_for_s: float = 0.0


@dataclass(slots=True)
class Acceptance:
    """Which models a replica takes requests for. Times are on the monotonic clock.

    `models` are those of which there is anything to heed, an attribute because it is read for
    every replica and request. Who sends a trial, or compares, has to say what came of it:
    `answered` or `compared`, else `undecided`.
    """

    models: dict[str, _Refusals] = field(default_factory=dict)

    def allows(self, model: str, now_s: float) -> bool:
        """Whether it may get a request for `model`."""
        known = self.models.get(model)
        return known is None or now_s >= known.until_s

    def sent(self, model: str, now_s: float) -> bool:
        """A request goes there. Whether it is the trial of one that was ejected."""
        known = self.models.get(model)
        if known is None or not known.ejected or now_s < known.until_s:
            return False
        known.until_s = now_s + LONGEST_OPEN_S
        return True

    def answered(self, model: str, status: int, now_s: float, *, trial: bool) -> Advice:
        """It has answered a request, if `trial` then that one."""
        known = self.models.get(model)
        if not is_refusal(status):
            if known is not None:
                self._accepted(model, known, now_s, trial=trial)
            return Advice.PASS
        if known is None:
            known = self.models[model] = _Refusals()
        known.in_a_row += 1
        if trial:
            return Advice.COMPARE
        if known.ejected or now_s < known.until_s:
            return Advice.RETRY
        if now_s > known.compared_s + REMEMBERED_S:
            known.suspicious = SUSPICIOUS
        return Advice.COMPARE if known.in_a_row >= known.suspicious else Advice.PASS

    def refuses(self, model: str) -> bool:
        """Whether it refused the latest request for `model`."""
        known = self.models.get(model)
        return known is not None and known.in_a_row > 0

    def suspend(self, model: str, status: int, now_s: float) -> None:
        """It gets nothing until it is said what another replica answers, or that takes long."""
        known = self.models[model]
        known.status = status
        known.until_s = now_s + LONGEST_OPEN_S

    def compared(self, model: str, status: int, now_s: float) -> bool:
        """What it refused, another has answered with `status`. Whether it is ejected."""
        known = self.models.get(model)
        if known is None:  # it took so long that it has been reinstated
            return False
        if status == known.status:
            self.models[model] = _Refusals(
                suspicious=min(2 * known.suspicious, MOST_SUSPICIOUS), compared_s=now_s
            )
            return False
        if is_refusal(status):
            self.undecided(model, now_s)
            return False
        known.ejected = True
        known.ejected_for_s = min(max(FIRST_OPEN_S, 2 * known.ejected_for_s), LONGEST_OPEN_S)
        known.until_s = now_s + known.ejected_for_s
        return True

    def undecided(self, model: str, now_s: float) -> None:
        """Nothing came of it: the next one tells."""
        if (known := self.models.get(model)) is not None:
            known.until_s = now_s

    def postponed(self, model: str, now_s: float) -> None:
        """No other replica could be asked: until there may be one it gets nothing.

        Not for long, as it may be the client's fault.
        """
        known = self.models[model]
        known.until_s = now_s + max(FIRST_OPEN_S, known.ejected_for_s)
        if not known.ejected:
            known.in_a_row = 0
            known.suspicious = min(2 * known.suspicious, MOST_SUSPICIOUS)
            known.compared_s = now_s

    def _accepted(self, model: str, known: _Refusals, now_s: float, *, trial: bool) -> None:
        known.in_a_row = 0
        suspended = known.ejected or now_s < known.until_s
        if trial or (not suspended and now_s > known.compared_s + REMEMBERED_S):
            del self.models[model]
