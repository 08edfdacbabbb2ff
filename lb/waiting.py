"""The waiting room: requests for which every replica is full."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol

from lb.fair_queue import FairQueue
from lb.replicas import Replica
from lb.router import Router
from lb.settings import Admission

# Places that other workers leave are noticed by looking.
_LOOK_S = 0.005


class Guest(Protocol):
    """A request that waits for a place."""

    def place_free(self) -> None:
        """There is a place now: take it."""
        ...


class WaitingRoom:
    """A fair queue for each model. Whoever leaves a replica calls the next one in.

    Where several workers share the replicas, each has a room, and has to look out for
    places that others leave (`watchful`).
    """

    def __init__(self, router: Router, admission: Admission, *, watchful: bool = False) -> None:
        self._router = router
        self._watchful = watchful
        self._looking: asyncio.TimerHandle | None = None
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
        entered = queue.put(tenant, guest)
        if entered and self._watchful and self._looking is None:
            self._look_later()
        return entered

    def leave(self, model: str, tenant: bytes, guest: Guest) -> None:
        """`guest` waits no longer."""
        self._queues[model].remove(tenant, guest)

    def waits(self, model: str) -> bool:
        """Whether anybody waits for `model`; who comes now must not overtake them."""
        queue = self._queues.get(model)
        return bool(queue)

    def call_all(self) -> None:
        """There may be places anywhere: fill them."""
        self._fill(self._queues)

    def call(self, replica: Replica) -> None:
        """There may be places on `replica`: fill them."""
        if self._queues:
            self._fill(replica.models)

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = None
        self.call_all()
        if len(self):
            self._look_later()

    def _fill(self, models: Iterable[str]) -> None:
        if self._calling:  # a guest that is called and fails at once calls again
            return
        self._calling = True
        try:
            for model in tuple(models):
                queue = self._queues.get(model)
                while queue and self._router.has_place(model, time.monotonic()):
                    guest = queue.take()
                    assert guest is not None
                    guest.place_free()
        finally:
            self._calling = False
