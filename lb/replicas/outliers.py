"""Outlier detection: replicas that refuse requests which others accept.

A refusal is an answer by which the replica will not do what was asked. If every replica refuses a
request the client is at fault; if a single one does, that replica is. Counting refusals does not
show which, since a client's mistakes come in rows too. So what was refused is tried on another
replica, which costs the engine nothing: it has not begun.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum, auto

from lb.replicas.breaker import FIRST_OPEN_S, LONGEST_OPEN_S

# From this excess of refusals on, they are compared with what other replicas answer. It doubles
# each time that others refuse as well: one client's mistakes must not all be sent twice.
SUSPICIOUS = 3
MOST_SUSPICIOUS = 24
# How long a comparison is remembered.
REMEMBERED_S = 60.0

# Model and path (b"" if unknown): a replica of an older version may lack an API.
Service = tuple[str, bytes]

# How a body with a 2xx status begins that is a refusal: vLLM sends the head of a stream before it
# looks at the request, and a proxy may answer with an HTML page.
_REFUSAL = re.compile(
    rb"\s*(?:event:\s*error|error:|data:\s*\[DONE\]|<"
    rb'|(?:data:\s*)?\{\s*"(?:error"\s*+:\s*+(?!null)|detail"\s*:|(?:object|type)"\s*:\s*"error"))'
)
_FINISH = b'"finish_reason"'
_ABORTED = re.compile(_FINISH + rb'\s*:\s*"(?:abort|error)"')
# What ends at once is short.
_SHORT_BYTES = 2048


def is_refusal(status: int, beginning: bytes) -> bool:
    """Whether an answer has a status of 300 to 499, or 2xx and an error, a page or nothing in it.

    `beginning` is the first part of the body, b"" only if there is no body.
    """
    if 200 <= status < 300:
        return not beginning or _REFUSAL.match(beginning) is not None or _aborted(beginning)
    return 300 <= status < 500


def _aborted(beginning: bytes) -> bool:
    # `find` is several times as fast as the pattern, which then has little left to search.
    at = beginning.find(_FINISH, 0, _SHORT_BYTES)
    return at >= 0 and _ABORTED.search(beginning, at, _SHORT_BYTES) is not None


class Advice(Enum):
    """What to do with an answer."""

    PASS = auto()  # the client gets it
    COMPARE = auto()  # try the request on another replica, then call `compared`
    RETRY = auto()  # the replica is suspended: another one may accept the request


@dataclass(slots=True)
class _Refusals:
    """The refusals of one service by one replica, which is suspended until `until_s`.

    It is suspended while a refusal is compared, while it is `ejected` (another replica has
    accepted what it refused), and while a trial is under way. `excess` is the number of
    refusals, less half of the requests that it accepted.
    """

    ejected: bool = False
    until_s: float = -math.inf
    excess: float = 0.0
    suspicious: int = SUSPICIOUS
    compared_s: float = -math.inf
    ejected_for_s: float = 0.0


@dataclass(slots=True)
class Acceptance:
    """Which services a replica accepts requests for. Times are on the monotonic clock.

    `services` are those with refusals, an attribute because it is read for every replica and
    request. After a trial or a suspension one of `answered`, `compared`, `undecided` and
    `postponed` has to be called.
    """

    services: dict[Service, _Refusals] = field(default_factory=dict)

    def allows(self, service: Service, now_s: float) -> bool:
        """Whether it may get a request for `service`."""
        known = self.services.get(service)
        return known is None or now_s >= known.until_s

    def sent(self, service: Service, now_s: float) -> bool:
        """A request is sent. Returns whether it is the trial that ends an ejection."""
        known = self.services.get(service)
        if known is None or not known.ejected or now_s < known.until_s:
            return False
        known.until_s = now_s + LONGEST_OPEN_S
        return True

    def answered(self, service: Service, refused: bool, now_s: float, *, trial: bool) -> Advice:
        """The replica has answered a request. Returns what to do with the answer."""
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
        """No more requests until it is known what another replica answers, or for 30 s."""
        self.services[service].until_s = now_s + LONGEST_OPEN_S

    def compared(self, service: Service, refused: bool, now_s: float) -> bool:
        """Another replica has answered what this one refused. Returns whether it is ejected."""
        known = self.services.get(service)
        if known is None:  # it was reinstated in the meantime
            return False
        if refused:
            _clear(known, now_s, 0.0)
            return False
        known.ejected = True
        known.ejected_for_s = min(max(FIRST_OPEN_S, 2 * known.ejected_for_s), LONGEST_OPEN_S)
        known.until_s = now_s + known.ejected_for_s
        return True

    def undecided(self, service: Service, now_s: float) -> None:
        """The trial or comparison had no result: the next request is another one."""
        if (known := self.services.get(service)) is not None:
            known.until_s = now_s

    def postponed(self, service: Service, now_s: float) -> None:
        """No other replica was free to compare: suspend this one for a second more."""
        _clear(self.services[service], now_s, FIRST_OPEN_S)

    def _accepted(self, service: Service, known: _Refusals, now_s: float, *, trial: bool) -> None:
        known.excess = max(0.0, known.excess - 0.5)
        suspended = known.ejected or now_s < known.until_s
        forgotten = now_s > known.compared_s + REMEMBERED_S and not (suspended or known.excess)
        if trial or forgotten:
            del self.services[service]


def _clear(known: _Refusals, now_s: float, for_s: float) -> None:
    """The refusal was the client's fault, or may have been. What is ejected stays ejected."""
    known.until_s = now_s + max(for_s, known.ejected_for_s)
    if not known.ejected:
        known.excess = 0.0
        known.suspicious = min(2 * known.suspicious, MOST_SUSPICIOUS)
        known.compared_s = now_s
