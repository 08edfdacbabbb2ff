"""What the balancer knows of each replica: the state that policies choose by."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lb.http.endpoint import Endpoint
from lb.replicas.breaker import Breaker
from lb.replicas.outliers import Acceptance, Service

logger = logging.getLogger("lb")

# A turn of a replica with a capacity of 1, in the virtual time of `round-robin`.
_TURN = 2**20

# What a reading of others' requests weighs in their mean. A reading alone is mostly chance,
# and every balancer that polls chases the same one; ten polls later their reason may be gone.
_FOREIGN_WEIGHT = 0.2


# Nothing changes it, but a frozen one would take five times as long to make.
@dataclass(slots=True)
class Request:
    """What a policy may know of a request.

    `key` stands for what the policy keeps together (a prefix, a session); None when
    there is nothing of the kind. `model` is "" where any will do. `stored_response`: it
    refers to a response that was answered before, which only the replica that did has.
    `path` is where it goes, b"" for one that is not in the table of routes.
    """

    model: str
    prompt_tokens: int
    key: int | None = None
    stored_response: bool = False
    path: bytes = b""

    @property
    def service(self) -> Service:
        """What a replica may accept or refuse."""
        return self.model, self.path


@dataclass(frozen=True, slots=True)
class EngineGauges:
    """Requests `waiting` and `running` now, tokens `generated` so far.

    The last two are 0 if they are not exported.
    """

    waiting: float
    running: float
    generated: float


# What the control plane finds out of a replica and tells its workers.
_FACTS = (
    "slot",
    "weight",
    "draining",
    "healthy",
    "healthy_since_s",
    "models",
    "waiting",
    "foreign",
    "polled_s",
    "progressed_s",
)


class Replica:
    """One engine behind the balancer. Policies read it; the fleet and the poller write it.

    `weight` is how much it can take as configured, `capacity` how much it is to take now:
    less while it warms up. One that is `draining` finishes what it has and gets nothing
    new. `entries` maps the `models` that it serves to their entries in its /v1/models;
    workers know the names only. It is healthy since `healthy_since_s`, -inf if it was so
    from the start.

    `in_flight` counts requests of this balancer, `prompt_tokens` the estimated prompts of
    those without a first byte. `last_turn` is when the replica's latest turn began and
    `turn` how long each takes, in the virtual time of `round-robin`. `slot` is where its
    counts are on the board. `name_hash` is a large number that stands for the name.

    `waiting` is the queue length as last polled, None when missing; `foreign` the mean
    number of requests there that are not ours. `progressed_s` is when a poll last showed
    that the engine's gauges had moved.
    """

    def __init__(self, endpoint: Endpoint, weight: float = 1.0, slot: int = 0) -> None:
        self.endpoint = endpoint
        self.name = endpoint.name
        self.name_bytes = self.name.encode("ascii")
        self.name_hash = 2.0**32 + zlib.crc32(self.name_bytes)
        self.slot = slot
        self.weight = weight
        self._set_capacity(weight)
        self.breaker = Breaker()
        self.acceptance = Acceptance()
        self.draining = False
        self.healthy = False
        self.healthy_since_s = -math.inf
        self.models: Collection[str] = ()
        self.entries: Mapping[str, Any] = {}
        self.trouble = ""
        self.in_flight = 0
        self.prompt_tokens = 0
        self.last_turn = 0
        self.waiting: float | None = None
        self.foreign = 0.0
        self.progressed_s = -math.inf
        self.polled_s = -math.inf
        self._gauges: EngineGauges | None = None
        self._elsewhere = (0, 0)

    @property
    def serving(self) -> bool:
        """Whether it may get requests."""
        return self.healthy and not self.draining

    @property
    def judged(self) -> bool:
        """Whether it is known to be healthy or not."""
        return self.healthy or self.trouble != ""

    def mark_healthy(self, entries: Mapping[str, Any], since_s: float = -math.inf) -> None:
        """It answers and serves `entries`; if it did not before, then `since_s`."""
        if not self.healthy or entries.keys() != self.entries.keys():
            logger.info("replica %s is healthy and serves %s", self.name, ", ".join(entries))
        if not self.healthy:
            self.healthy_since_s = since_s
        self.healthy = True
        self.entries = entries
        self.models = tuple(entries)
        self.trouble = ""

    def mark_unhealthy(self, reason: str) -> None:
        if reason != self.trouble:
            logger.warning("replica %s is unhealthy: it %s", self.name, reason)
        self.healthy = False
        self.trouble = reason

    def warm_up(self, now_s: float, slow_start_s: float) -> None:
        """Set `capacity`: it grows to `weight` in `slow_start_s`, from the last trouble on.

        It grows in tenths: between two that come up together a hundredth of a second
        apart there is to be no difference.
        """
        since_s = max(self.healthy_since_s, self.breaker.closed_s)
        tenths = (
            10 if now_s >= since_s + slow_start_s else int(10 * (now_s - since_s) / slow_start_s)
        )
        self._set_capacity(self.weight * max(1, tenths) / 10)

    def _set_capacity(self, capacity: float) -> None:
        self.capacity = capacity
        self.turn = int(_TURN / capacity)

    def facts(self) -> dict[str, Any]:
        """For `take` in another process."""
        return {name: getattr(self, name) for name in _FACTS}

    def take(self, facts: Mapping[str, Any]) -> None:
        """Replace what is known with what the control plane found out."""
        for name in _FACTS:
            setattr(self, name, facts[name])

    def share(self, in_flight: int, prompt_tokens: int, last_turn: int) -> int:
        """Count in what other workers have on it now; returns how many more in flight."""
        was_in_flight, was_prompt_tokens = self._elsewhere
        more = in_flight - was_in_flight
        self.in_flight += more
        self.prompt_tokens += prompt_tokens - was_prompt_tokens
        self.last_turn = max(self.last_turn, last_turn)
        self._elsewhere = in_flight, prompt_tokens
        return more

    def observe(self, gauges: EngineGauges | None, in_flight: int, now_s: float) -> None:
        """Take in a scrape; `in_flight` is the count from before it was asked for.

        Most requests there are our own, and those are counted exactly already, so only
        the excess over them is somebody else's. Own requests are taken as of the poll:
        compared with today's count, those that have ended since would look like foreign
        ones. The larger of the counts before and after is used, so that one that ends in
        between never does either. An engine that has not moved is idle, whatever it says:
        vLLM updates its gauges when it runs a step, so that what was there when its last
        requests were aborted stays reported for ever.
        """
        self.polled_s = now_s
        if gauges is None:
            self.waiting, self.foreign = None, 0.0
        else:
            self.waiting = gauges.waiting
            foreign = 0.0
            if gauges != self._gauges:
                self.progressed_s = now_s
                own = max(in_flight, self.in_flight)
                foreign = max(0.0, gauges.waiting + gauges.running - own)
            self.foreign += _FOREIGN_WEIGHT * (foreign - self.foreign)
        self._gauges = gauges

    def metrics_age_s(self, now_s: float) -> float | None:
        """Seconds since `waiting` was read; None when it is missing."""
        return None if self.waiting is None else now_s - self.polled_s
