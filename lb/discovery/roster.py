"""Adds replicas that discovery finds to the fleet, and removes others without losing a request."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from lb.discovery.poller import Poller
from lb.discovery.sources import Source, discovering
from lb.http.endpoint import Endpoint, Target
from lb.periodic import every
from lb.replicas.board import Board
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica

logger = logging.getLogger("lb")

_SWEEP_S = 1.0
# The shortest time that a replica drains: then every worker knows of it, and another replica can
# have its column on the board.
_FORGET_S = 5.0


@asynccontextmanager
async def following(
    source: Source, roster: Roster, poller: Poller, forget: Callable[[Endpoint], None]
) -> AsyncIterator[None]:
    """A context in which the fleet of `roster` has the replicas of `source`, and they are polled.

    Entering it waits up to a second for the first answers. `forget` is called with each
    endpoint that has been removed from the fleet.
    """

    def found(targets: tuple[Target, ...]) -> None:
        roster.reconcile(targets, time.monotonic())
        poller.follow()

    def sweep() -> None:
        for replica in roster.remove_drained(time.monotonic()):
            forget(replica.endpoint)

    async with poller, discovering(source, found), every(_SWEEP_S, sweep):
        await poller.first_round()
        yield


class Roster:
    """Adds replicas to a fleet, and to the `board` if there is one, and removes them."""

    def __init__(self, fleet: Fleet, board: Board | None = None) -> None:
        self._fleet = fleet
        self._board = board
        self._drained_s: dict[Replica, float] = {}

    def reconcile(self, targets: Sequence[Target], now_s: float) -> None:
        """Add `targets` to the fleet; drain all other replicas: they get no new requests."""
        wanted = {target.endpoint: target.weight for target in targets}
        for endpoint, weight in wanted.items():
            replica = self._fleet.find(endpoint) or self._add(endpoint)
            if replica is not None:
                self._drained_s.pop(replica, None)
                replica.weight, replica.draining = weight, False
                self._fleet.changed(replica)
        for replica in self._fleet.replicas:
            if replica.endpoint not in wanted and not replica.draining:
                logger.info("replica %s is drained", replica.name)
                self._drained_s[replica] = now_s
                replica.draining = True
                self._fleet.changed(replica)
        self._fleet.completed()

    def remove_drained(self, now_s: float) -> list[Replica]:
        """Remove drained replicas with nothing in flight from the fleet, and return them."""
        self._fleet.refresh(now_s)
        removed = [
            replica
            for replica, since_s in self._drained_s.items()
            if not replica.in_flight and now_s > since_s + _FORGET_S
        ]
        for replica in removed:
            del self._drained_s[replica]
            self._fleet.remove(replica)
            if self._board is not None:
                self._board.release(replica.column)
        return removed

    def _add(self, endpoint: Endpoint) -> Replica | None:
        identity = f"{endpoint.name} {endpoint.url}"
        column = 0 if self._board is None else self._board.claim(identity)
        if column is None:
            logger.error("replica %s gets no requests: there are too many replicas", endpoint.name)
            return None
        replica = Replica(endpoint, column=column)
        self._fleet.add(replica)
        return replica
