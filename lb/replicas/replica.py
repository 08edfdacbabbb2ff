"""What the balancer knows of a replica: the state by which policies choose."""

from __future__ import annotations

import logging
import math
import sys
import zlib
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lb.http.endpoint import Endpoint
from lb.replicas.breaker import Breaker
from lb.replicas.cached import CachedBlocks
from lb.replicas.outliers import Acceptance, Service

logger = logging.getLogger("lb")

# A turn of a replica with a capacity of 1, in the virtual time of `round-robin`.
_TURN = 2**20

# The weight of one reading in the moving mean of other clients' requests. One reading is mostly
# chance, and every balancer that polls would react to the same one.
_FOREIGN_WEIGHT = 0.2

# From so many readings in a row it is learned how much a replica runs at once.
_READINGS = 3


def _reserve(running: int) -> int:
    """What a replica gets beyond what it runs: it must have the next request when one ends."""
    return max(1, running // 4)


# Not frozen, although nothing changes it: that would take five times as long to make.
@dataclass(slots=True)
class Request:
    """What a policy may know of a request.

    `model` is "" where any will do. `key` is a hash of the prefix or session by which the policy
    chooses; None without one. With `stored_response` only the replica that has stored the
    response can answer. `path` is b"" if it is not in the table of routes. `blocks` are those of
    the prompt, none for policies that do not look at what is cached.
    """

    model: str
    prompt_tokens: int
    key: int | None = None
    stored_response: bool = False
    path: bytes = b""
    blocks: Sequence[int] = ()

    @property
    def service(self) -> Service:
        """What a replica may accept or refuse: see `lb.replicas.outliers`."""
        return self.model, self.path


@dataclass(frozen=True, slots=True)
class EngineGauges:
    """Requests waiting and running, tokens generated so far; the last two 0 if not exported.

    `cached_tokens` is how many tokens of prompts the engine keeps at most; None if not exported.
    """

    waiting: float
    running: float
    generated: float
    cached_tokens: int | None = None


# What the control plane sends to its workers.
_FACTS = (
    *("column", "weight", "draining", "healthy", "healthy_since_s"),
    *("models", "waiting", "foreign", "polled_s", "progressed_s", "cached_tokens"),
    "full_at",
)


class Replica:
    """One engine behind the balancer. Policies read it; the fleet and the poller write it.

    `weight` is the configured share of load, `capacity` the present one: less during a slow
    start. A replica that is `draining` gets no new requests. `entries` are its entries in
    /v1/models by model; workers know only the `models`. `healthy_since_s` is -inf if it was
    healthy when the balancer started.

    `in_flight` counts requests of this balancer, `prompt_tokens` the estimated prompts of
    those without a first byte, less what was `cached` of them. `last_turn` is when the
    replica's latest turn began and `turn` how long each takes, in the virtual time of
    `round-robin`. `column` is where its counts are on the board. `name_hash` is a large number,
    made from the name.

    `waiting` is the queue length as last polled, None if unknown; `foreign` the mean number
    of other clients' requests on it. `progressed_s` is when a poll last showed that the
    engine's gauges had changed. `cached_tokens` is how many tokens of prompts the engine keeps at
    most, None if unknown; `cached` remembers no more. From `full_at` requests in flight on, more
    would only wait in it, as far as is known.
    """

    def __init__(self, endpoint: Endpoint, weight: float = 1.0, column: int = 0) -> None:
        self.endpoint = endpoint
        self.name = endpoint.name
        self.name_bytes = self.name.encode("ascii")
        self.name_hash = 2.0**32 + zlib.crc32(self.name_bytes)
        self.column = column
        self.weight = weight
        self._set_capacity(weight)
        self.breaker = Breaker()
        self.acceptance = Acceptance()
        self.cached = CachedBlocks()
        self.cached_tokens: int | None = None
        self.draining = False
        self.healthy = False
        self.healthy_since_s = -math.inf
        self.models: Collection[str] = ()
        self.entries: Mapping[str, Any] = {}
        self.unhealthy_reason = ""
        self.in_flight = 0
        self.prompt_tokens = 0
        self.last_turn = 0
        self.waiting: float | None = None
        self.foreign = 0.0
        self.progressed_s = -math.inf
        self.polled_s = -math.inf
        self._gauges: EngineGauges | None = None
        # What ran in the latest readings in a row in which more waited than the reserve.
        self._running: deque[int] = deque(maxlen=_READINGS)
        self._forget_full_at()
        self._elsewhere = (0, 0)

    @property
    def serving(self) -> bool:
        """Whether it may get requests."""
        return self.healthy and not self.draining

    @property
    def health_known(self) -> bool:
        """Whether it is known to be healthy or to be unhealthy."""
        return self.healthy or self.unhealthy_reason != ""

    def mark_healthy(self, entries: Mapping[str, Any], since_s: float = -math.inf) -> None:
        """It answers and serves `entries`, since `since_s` if it was unhealthy before."""
        if not self.healthy or entries.keys() != self.entries.keys():
            logger.info("replica %s is healthy and serves %s", self.name, ", ".join(entries))
        if not self.healthy:
            self.healthy_since_s = since_s
        self.healthy = True
        self.entries = entries
        self.models = tuple(entries)
        self.unhealthy_reason = ""

    def mark_unhealthy(self, reason: str) -> None:
        if reason != self.unhealthy_reason:
            logger.warning("replica %s is unhealthy: it %s", self.name, reason)
        self.healthy = False
        self.unhealthy_reason = reason
        self.cached.clear()
        self._forget_full_at()

    def warm_up(self, now_s: float, slow_start_s: float) -> None:
        """Set `capacity`: it grows to `weight` in `slow_start_s` after the replica was unavailable.

        It grows in tenths, so that two that come up nearly together get the same.
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
        """For `apply` in another process."""
        return {name: getattr(self, name) for name in _FACTS}

    def apply(self, facts: Mapping[str, Any]) -> None:
        """Set what the control plane has sent."""
        for name in _FACTS:
            setattr(self, name, facts[name])
        self.cached.resize(self.cached_tokens)
        if not self.healthy:
            self.cached.clear()

    def add_others(self, in_flight: int, prompt_tokens: int, last_turn: int) -> int:
        """Count what other workers have on it now. Returns by how much `in_flight` has grown."""
        was_in_flight, was_prompt_tokens = self._elsewhere
        more = in_flight - was_in_flight
        self.in_flight += more
        self.prompt_tokens += prompt_tokens - was_prompt_tokens
        self.last_turn = max(self.last_turn, last_turn)
        self._elsewhere = in_flight, prompt_tokens
        return more

    def observe(self, gauges: EngineGauges | None, in_flight: int, now_s: float) -> None:
        """Note what a poll has read; `in_flight` is the count from before the poll.

        Most requests there are our own, which are counted exactly: only the excess over them
        is foreign. The larger of the counts before and after the poll is used, so that a
        request of our own that ends in between never looks foreign. An engine whose gauges do
        not change is idle, whatever they say: vLLM updates them when it runs a step, so that
        aborted requests stay reported.
        """
        self.polled_s = now_s
        if gauges is None:
            self.waiting, self.foreign = None, 0.0
            self._forget_full_at()
        else:
            self._learn_full_at(gauges)
            self.waiting = gauges.waiting
            self.cached_tokens = gauges.cached_tokens
            self.cached.resize(self.cached_tokens)
            foreign = 0.0
            if gauges != self._gauges:
                self.progressed_s = now_s
                own = max(in_flight, self.in_flight)
                foreign = max(0.0, gauges.waiting + gauges.running - own)
            self.foreign += _FOREIGN_WEIGHT * (foreign - self.foreign)
        self._gauges = gauges

    def _learn_full_at(self, gauges: EngineGauges) -> None:
        """Set `full_at` to what the engine runs at once, and the reserve.

        One reading says little: a request that has just come waits for the next step of any
        engine, and what ended in the last step is missing from those that run. So more than the
        reserve has to wait in several readings in a row. A replica that runs all that it may get
        could run more: then nothing is known again.
        """
        running = int(gauges.running)
        if gauges.waiting > _reserve(running):
            self._running.append(running)
        else:
            self._running.clear()
        if len(self._running) == _READINGS:
            most = max(self._running)
            self.full_at = most + _reserve(most)
        elif running >= self.full_at:
            self.full_at = sys.maxsize

    def _forget_full_at(self) -> None:
        self._running.clear()
        self.full_at = sys.maxsize

    def metrics_age_s(self, now_s: float) -> float | None:
        """Seconds since `waiting` was read; None when it is missing."""
        return None if self.waiting is None else now_s - self.polled_s
