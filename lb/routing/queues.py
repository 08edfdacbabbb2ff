"""Requests that wait because every replica is full: a fair queue for each model."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Generic, Protocol, TypeVar

from lb.http.api_errors import ApiError
from lb.policies.choice import Choice
from lb.replicas.replica import Request
from lb.routing.router import Admission, Router

# Places that other workers leave are noticed by looking.
_LOOK_S = 0.005

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Bounded in all and for each tenant; first in, first out within a tenant."""

    def __init__(self, most: int, most_per_tenant: int) -> None:
        self._most = most
        self._most_per_tenant = most_per_tenant
        self._count = 0
        # Insertion order is the order of turns.
        self._tenants: dict[bytes, deque[Item]] = {}

    def __len__(self) -> int:
        return self._count

    def put(self, tenant: bytes, item: Item) -> bool:
        """Whether there was room."""
        waiting = self._tenants.get(tenant, ())
        if self._count >= self._most or len(waiting) >= self._most_per_tenant:
            return False
        self._tenants.setdefault(tenant, deque()).append(item)
        self._count += 1
        return True

    def first(self) -> Item | None:
        """The next one, or None."""
        return next(iter(self._tenants.values()))[0] if self._count else None

    def take(self) -> Item | None:
        """Take `first` out; its tenant goes to the end of the row."""
        if not self._count:
            return None
        tenant = next(iter(self._tenants))
        waiting = self._tenants.pop(tenant)
        item = waiting.popleft()
        if waiting:
            self._tenants[tenant] = waiting
        self._count -= 1
        return item

    def remove(self, tenant: bytes, item: Item) -> None:
        """Forget an item that waits no longer; nothing happens if it is not there."""
        waiting = self._tenants.get(tenant)
        if waiting is None or item not in waiting:
            return
        waiting.remove(item)
        self._count -= 1
        if not waiting:
            del self._tenants[tenant]


class Guest(Protocol):
    """What waits for a place."""

    @property
    def request(self) -> Request: ...

    def placed(self, choice: Choice) -> None:
        """There is a place now: take it."""
        ...

    def turned_away(self, error: ApiError) -> None:
        """There is nothing left to wait for."""
        ...


class WaitingRoom:
    """A fair queue for each model. Whoever leaves a replica has the next one called in.

    Where several workers share the replicas, each has a room, and has to look out for
    places that others leave (`watchful`).
    """

    def __init__(self, router: Router, admission: Admission, *, watchful: bool = False) -> None:
        self._router = router
        self._admission = admission
        # Insertion order is the order of turns.
        self._queues: dict[str, FairQueue[Guest]] = {}
        self._calling = False
        self._watchful = watchful
        self._looking: asyncio.TimerHandle | None = None

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

    def call(self) -> None:
        """There may be places: fill them, one for each model in turn."""
        if self._calling or not self._queues:  # a guest that fails at once calls again
            return
        self._calling = True
        try:
            while any(self._call_one(model) for model in tuple(self._queues)):
                pass
        finally:
            self._calling = False

    def _call_one(self, model: str) -> bool:
        """Whether somebody waited for `model` and waits no longer."""
        queue = self._queues[model]
        guest = queue.first()
        if guest is None:
            return False
        try:
            choice = self._router.choose(guest.request, time.monotonic())
        except ApiError as error:
            queue.take()
            guest.turned_away(error)
            return True
        if choice is None:
            return False
        self._queues[model] = self._queues.pop(model)
        queue.take()
        guest.placed(choice)
        return True

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = None
        self.call()
        if len(self):
            self._look_later()
