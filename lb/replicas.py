"""What the balancer knows of each replica: the state that policies choose by."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
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


# What the control plane finds out of a replica and tells its workers.
_FACTS = (
    "slot",
    "weight",
    "draining",
    "healthy",
    "healthy_since_s",
    "models",
    "waiting",
    "foreign_waiting",
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

    `in_flight` counts requests of this balancer, `unanswered` those of them without a
    first byte, `prompt_tokens` the estimated prompts of the unanswered ones. `last_turn`
    is the place of the replica's latest request of a model in the fleet's order. `slot`
    is where its counts are on the board.

    `waiting` is the queue length as last polled, None when missing;
    `foreign_waiting` the part of it that is not ours. `progressed_s` is when a poll
    last showed that the engine's gauges had moved.
    """

    def __init__(self, endpoint: Endpoint, weight: float = 1.0, slot: int = 0) -> None:
        self.endpoint = endpoint
        self.name = endpoint.authority
        self.name_bytes = self.name.encode("ascii")
        self.slot = slot
        self.weight = weight
        self.capacity = weight
        self.breaker = Breaker()
        self.draining = False
        self.healthy = False
        self.healthy_since_s = -math.inf
        self.models: Collection[str] = ()
        self.entries: Mapping[str, Any] = {}
        self.trouble = ""
        self.in_flight = 0
        self.unanswered = 0
        self.prompt_tokens = 0
        self.last_turn: dict[str, int] = {}
        self.waiting: float | None = None
        self.foreign_waiting = 0.0
        self.progressed_s = -math.inf
        self.polled_s: float | None = None
        self._gauges: EngineGauges | None = None
        self._elsewhere = (0, 0, 0)

    @property
    def serving(self) -> bool:
        """Whether it may get requests."""
        return self.healthy and not self.draining

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
        self.capacity = self.weight * max(1, tenths) / 10

    def facts(self) -> dict[str, Any]:
        """For `take` in another process."""
        return {name: getattr(self, name) for name in _FACTS}

    def take(self, facts: Mapping[str, Any]) -> None:
        """Replace what is known with what the control plane found out."""
        for name in _FACTS:
            setattr(self, name, facts[name])

    def share(self, in_flight: int, unanswered: int, prompt_tokens: int) -> int:
        """Count in what other workers have on it now; returns how many more in flight."""
        was_in_flight, was_unanswered, was_prompt_tokens = self._elsewhere
        more = in_flight - was_in_flight
        self.in_flight += more
        self.unanswered += unanswered - was_unanswered
        self.prompt_tokens += prompt_tokens - was_prompt_tokens
        self._elsewhere = in_flight, unanswered, prompt_tokens
        return more

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
