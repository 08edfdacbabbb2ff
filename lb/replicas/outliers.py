"""Replicas that refuse what others accept: outlier detection by what they answer.

A refusal is an answer by which the replica will not do what was asked, as opposed to one that
it cannot. One that every replica gives is the client's fault, one that a single replica gives
is that replica's. Counting does not tell them apart, since clients' faults come in rows, too:
what was refused is tried on another replica. That costs the engine nothing, since it has
not begun.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum, auto

from lb.replicas.breaker import FIRST_OPEN_S, LONGEST_OPEN_S

# From so many refusals on, less half of what was accepted, they are compared; twice as many
# each time that others refused as well, so that a client that is always wrong is not tried
# twice for ever.
SUSPICIOUS = 3
MOST_SUSPICIOUS = 24
# A comparison is forgotten after so long.
REMEMBERED_S = 60.0

# The model and, where it is a known one, the path: of two versions, one may lack an API.
Service = tuple[str, bytes]

# How a body begins that is no answer in spite of its status: vLLM has sent the head of a stream
# before it looks at the request, and a proxy may answer with a page.
_NO_ANSWER = re.compile(
    rb"\s*(?:event:\s*error|error:|data:\s*\[DONE\]|<"
    rb'|(?:data:\s*)?\{\s*"(?:error"\s*+:\s*+(?!null)|detail"\s*:|(?:object|type)"\s*:\s*"error"))'
)
_ABORTED = re.compile(rb'"finish_reason"\s*:\s*"(?:abort|error)"')
# What ends at once is short.
_SHORT_BYTES = 2048


def is_refusal(status: int, beginning: bytes) -> bool:
    """Whether an answer is a redirection, blames the client, or does nothing of what was asked.

    `beginning` is what has come of its body, b"" only where there is none. A status from 500
    on is a failure, and no refusal.
    """
    if 200 <= status < 300:
        return (
            not beginning
            or _NO_ANSWER.match(beginning) is not None
            or _ABORTED.search(beginning, 0, _SHORT_BYTES) is not None
        )
    return 300 <= status < 500


class Advice(Enum):
    """What to do with an answer."""

    PASS = auto()  # it is the client's
    COMPARE = auto()  # try the request on another replica, and tell what that answers
    RETRY = auto()  # the replica is suspended: another one may accept it


@dataclass(slots=True)
class _Refusals:
    """Of requests for one service, by one replica, which is suspended until `until_s`.

    It is while a refusal is compared, while it is `ejected` because another has accepted
    what it refused, and while its trial is under way. `excess` is how many it refused, less
    half of those that it accepted.
    """

    ejected: bool = False
    until_s: float = -math.inf
    excess: float = 0.0
    suspicious: int = SUSPICIOUS
    compared_s: float = -math.inf
    ejected_for_s: float = 0.0


@dataclass(slots=True)
class Acceptance:
    """Which services a replica takes requests for. Times are on the monotonic clock.

    `services` are those of which there is anything to heed, an attribute because it is read
    for every replica and request. Who sends a trial, or compares, has to say what came of it:
    `answered` or `compared`, else `undecided`.
    """

    services: dict[Service, _Refusals] = field(default_factory=dict)

    def allows(self, service: Service, now_s: float) -> bool:
        """Whether it may get a request for `service`."""
        known = self.services.get(service)
        return known is None or now_s >= known.until_s

    def sent(self, service: Service, now_s: float) -> bool:
        """A request goes there. Whether it is the trial of one that was ejected."""
        known = self.services.get(service)
        if known is None or not known.ejected or now_s < known.until_s:
            return False
        known.until_s = now_s + LONGEST_OPEN_S
        return True

    def answered(self, service: Service, refused: bool, now_s: float, *, trial: bool) -> Advice:
        """It has answered a request, if `trial` then that one."""
        known = self.services.get(service)
        if not refused:
            if known is not None:
                self._accepted(service, known, now_s, trial=trial)
            return Advice.PASS
        if known is None:
            known = self.services[service] = _Refusals()
        known.excess += 1
        if trial:
            return Advice.COMPARE
        if known.ejected or now_s < known.until_s:
            return Advice.RETRY
        if now_s > known.compared_s + REMEMBERED_S:
            known.suspicious = SUSPICIOUS
        return Advice.COMPARE if known.excess >= known.suspicious else Advice.PASS

    def refuses(self, service: Service) -> bool:
        """Whether it has lately refused requests for `service`."""
        known = self.services.get(service)
        return known is not None and known.excess > 0

    def suspend(self, service: Service, now_s: float) -> None:
        """It gets nothing until it is said what another replica answers, or that takes long."""
        self.services[service].until_s = now_s + LONGEST_OPEN_S

    def compared(self, service: Service, refused: bool, now_s: float) -> bool:
        """What it refused, another has `refused` as well, or not. Whether it is ejected."""
        known = self.services.get(service)
        if known is None:  # it took so long that it has been reinstated
            return False
        if refused:
            _spare(known, now_s, 0.0)
            return False
        known.ejected = True
        known.ejected_for_s = min(max(FIRST_OPEN_S, 2 * known.ejected_for_s), LONGEST_OPEN_S)
        known.until_s = now_s + known.ejected_for_s
        return True

    def undecided(self, service: Service, now_s: float) -> None:
        """Nothing came of it: the next one tells."""
        if (known := self.services.get(service)) is not None:
            known.until_s = now_s

    def postponed(self, service: Service, now_s: float) -> None:
        """No other replica could be asked: until there may be one it gets nothing.

        Not for long, as it may be the client's fault.
        """
        _spare(self.services[service], now_s, FIRST_OPEN_S)

    def _accepted(self, service: Service, known: _Refusals, now_s: float, *, trial: bool) -> None:
        known.excess = max(0.0, known.excess - 0.5)
        suspended = known.ejected or now_s < known.until_s
        forgotten = now_s > known.compared_s + REMEMBERED_S and not (suspended or known.excess)
        if trial or forgotten:
            del self.services[service]


def _spare(known: _Refusals, now_s: float, for_s: float) -> None:
    """A refusal was the client's fault, or may have been, and tells nothing.

    One that is ejected stays so: a client's fault does not show that it accepts the others'.
    """
    known.until_s = now_s + max(for_s, known.ejected_for_s)
    if not known.ejected:
        known.excess = 0.0
        known.suspicious = min(2 * known.suspicious, MOST_SUSPICIOUS)
        known.compared_s = now_s
