"""What the balancer knows of each replica: the state that policies choose by."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from lb.breaker import Breaker
from lb.endpoint import Endpoint
from lb.engine_metrics import EngineGauges

logger = logging.getLogger("lb")


class Request(NamedTuple):
    """What a policy may know of a request. `arrived_s` is on the monotonic clock.

    `key` stands for what the policy keeps together (a prefix, a session); None when
    there is nothing of the kind.
    """

    model: str
    prompt_tokens: int
    arrived_s: float
    key: int | None = None


class Replica:
    """One engine behind the balancer. Policies read it, `Flight` and the poller write it.

    `models` maps a model's name to its entry in the replica's /v1/models.
    `in_flight` counts own requests, `unanswered` those of them without a first byte,
    `prompt_tokens` the estimated prompts of the unanswered ones. `last_turn` is the
    place of the replica's latest request of a model in the fleet's order.

    `waiting` is the queue length as last polled, None when missing;
    `foreign_waiting` the part of it that is not ours. `progressed_s` is when a poll
    last showed that the engine's gauges had moved.
    """

    def __init__(self, endpoint: Endpoint, capacity: float = 1.0) -> None:
        self.endpoint = endpoint
        self.name = endpoint.authority
        self.name_bytes = self.name.encode("ascii")
        self.capacity = capacity
        self.breaker = Breaker()
        self.healthy = False
        self.models: Mapping[str, Any] = {}
        self._trouble = ""
        self.in_flight = 0
        self.unanswered = 0
        self.prompt_tokens = 0
        self.last_turn: dict[str, int] = {}
        self.waiting: float | None = None
        self.foreign_waiting = 0.0
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

    def observe(self, gauges: EngineGauges | None, unanswered: int, now_s: float) -> None:
        """Take in a scrape; `unanswered` is the count from before it was asked for.

        Most polled waiting requests are our own, and those are counted exactly
        already, so only the excess over them is somebody else's. Own requests are
        taken as of the poll: compared with today's count, those that have been
        answered since would look like foreign ones. The larger of the counts before
        and after is used, so that one answered in between never does either.
        """
        self.polled_s = now_s
        if gauges is None:
            self.waiting, self.foreign_waiting = None, 0.0
        else:
            self.waiting = gauges.waiting
            self.foreign_waiting = max(0.0, gauges.waiting - max(unanswered, self.unanswered))
            if gauges != self._gauges:
                self.progressed_s = now_s
        self._gauges = gauges

    def metrics_age_s(self, now_s: float) -> float | None:
        """Seconds since `waiting` was read; None when it is missing."""
        if self.waiting is None or self.polled_s is None:
            return None
        return now_s - self.polled_s
