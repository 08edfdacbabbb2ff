"""Replicas come and go: what discovery finds becomes the fleet, without a lost request."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lb.board import Board
from lb.endpoint import Endpoint, Target
from lb.fleet import Fleet
from lb.replicas import Replica

logger = logging.getLogger("lb")

# One that was taken out is kept for so long at least: by then every worker knows that it
# is to send nothing there, and its slot can be another's.
_FORGET_S = 5.0


class Roster:
    """Keeps a fleet as discovery wants it. Its replicas' slots are on the `board`, if any."""

    def __init__(self, fleet: Fleet, board: Board | None = None) -> None:
        self._fleet = fleet
        self._board = board
        self._drained_s: dict[Replica, float] = {}

    def reconcile(self, targets: Sequence[Target], now_s: float) -> None:
        """Have `targets` in the fleet; others get nothing new and finish what they have."""
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

    def forget_drained(self, now_s: float) -> list[Replica]:
        """Take out of the fleet what was drained and has nothing left in flight."""
        gone = [
            replica
            for replica, since_s in self._drained_s.items()
            if not replica.in_flight and now_s > since_s + _FORGET_S
        ]
        for replica in gone:
            del self._drained_s[replica]
            self._fleet.remove(replica)
            if self._board is not None:
                self._board.release(replica.slot)
        return gone

    def _add(self, endpoint: Endpoint) -> Replica | None:
        identity = f"{endpoint.name} {endpoint.url}"
        slot = 0 if self._board is None else self._board.claim(identity)
        if slot is None:
            logger.error("replica %s is one too many, it gets no requests", endpoint.name)
            return None
        replica = Replica(endpoint, slot=slot)
        self._fleet.add(replica)
        return replica
