"""What the balancer knows of each replica: the state that policies choose by."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lb.breaker import Breaker
from lb.endpoint import Endpoint
from lb.engine_metrics import EngineGauges

logger = logging.getLogger("lb")

# A turn of a replica with a capacity of 1, in the virtual time of `round-robin`.
TURN = 2**20

# What a reading of others' requests weighs in their mean. A reading alone is mostly chance,
# and every balancer that polls chases the same one; ten polls later their reason may be gone.
_FOREIGN_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy may know of a request.

    `key` stands for what the policy keeps together (a prefix, a session); None when
    there is nothing of the kind.
    """

    model: str
    prompt_tokens: int
    key: int | None = None


class Replica:
    """One engine behind the balancer. Policies read it, `Flight` and the poller write it.

    `models` maps a model's name to its entry in the replica's /v1/models.
    `in_flight` counts own requests, `prompt_tokens` the estimated prompts of those without
    a first byte. `last_turn` is when the replica's latest turn began, in the virtual time
    of `round-robin`. `name_hash` stands for the name where keys are at home by hashing.

    `waiting` is the queue length as last polled, None when missing; `foreign` the mean
    number of requests there that are not ours. `progressed_s` is when a poll last showed
    that the engine's gauges had moved.
    """

    def __init__(self, endpoint: Endpoint, capacity: float = 1.0) -> None:
        self.endpoint = endpoint
        self.name = endpoint.authority
        self.name_bytes = self.name.encode("ascii")
        self.name_hash = zlib.crc32(self.name_bytes)
        self.capacity = capacity
        self.breaker = Breaker()
        self.healthy = False
        self.models: Mapping[str, Any] = {}
        self._trouble = ""
        self.in_flight = 0
        self.prompt_tokens = 0
        self.last_turn = 0
        self.waiting: float | None = None
        self.foreign = 0.0
        self.progressed_s = -math.inf
        self.polled_s: float | None = None
        self._gauges: EngineGauges | None = None

    def mark_healthy(self, models: Mapping[str, Any]) -> None:
        if not self.healthy or models.keys() != self.models.keys():
            logger.info("replica %s is healthy and serves %s", self.name, ", ".join(models))
        self.healthy = True
        self.models = models
        self._trouble = ""

    def mark_unhealthy(self, reason: str) -> None:
        if reason != self._trouble:
            logger.warning("replica %s is unhealthy: it %s", self.name, reason)
        self.healthy = False
        self._trouble = reason

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
        if self.waiting is None or self.polled_s is None:
            return None
        return now_s - self.polled_s
