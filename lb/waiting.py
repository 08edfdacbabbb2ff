"""The waiting room: requests for which every replica is full."""

from __future__ import annotations

from typing import Protocol

from lb.fair_queue import FairQueue
from lb.replicas import Replica
from lb.router import Router
from lb.settings import Admission


class Guest(Protocol):
    """A request that waits for a place."""

    def place_free(self) -> None:
        """There is a place now: take it."""
        ...


class WaitingRoom:
    """A fair queue for each model. Whoever leaves a replica calls the next one in."""

    def __init__(self, router: Router, admission: Admission) -> None:
        self._router = router
        self._admission = admission
        self._queues: dict[str, FairQueue[Guest]] = {}
        self._calling = False

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def enter(self, model: str, tenant: bytes, guest: Guest) -> bool:
        """Whether there is room to wait. `guest` is called when its place is free."""
        queue = self._queues.get(model)
        if queue is None:
            most, most_per_tenant = self._admission.queued, self._admission.queued_per_tenant
            queue = self._queues[model] = FairQueue(most, most_per_tenant)
        return queue.put(tenant, guest)

    def leave(self, model: str, tenant: bytes, guest: Guest) -> None:
        """`guest` waits no longer."""
        self._queues[model].remove(tenant, guest)

    def waits(self, model: str) -> bool:
        """Whether anybody waits for `model`; who comes now must not overtake them."""
        queue = self._queues.get(model)
        return bool(queue)

    def call(self, replica: Replica) -> None:
        """There may be places on `replica`: fill them."""
        if self._calling:  # a guest that is called and fails at once calls again
            return
        self._calling = True
        try:
            for model in replica.models:
                queue = self._queues.get(model)
                while queue and self._router.has_place(model):
                    guest = queue.take()
                    assert guest is not None
                    guest.place_free()
        finally:
            self._calling = False
