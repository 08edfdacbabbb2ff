"""Requests that wait because every replica is full: a queue for each model, fair to tenants."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from heapq import nlargest
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from lb.http.api_errors import ApiError
from lb.policies.choice import Choice
from lb.replicas.replica import Request
from lb.routing.router import Admission, Router

# The interval at which a worker looks for free replicas: what ends in others is not signalled.
_CHECK_S = 0.005

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Within a tenant first in, first out; the tenant that was served least is next. Bounded.

    Service is what `begin` and `serve` count. Where nobody calls them, tenants take turns: the
    single request of a tenant waits for one turn of each other one at most.

    A tenant that comes back has saved up nothing: it counts as served like the least served of
    those that wait. So of two tenants that both wait, none gets more than 2 (P + A) of service
    more than the other, however long they wait: P is the most that counts when a request
    begins, A the most that counts later for all requests that are served at the same time.
    Sheng et al., "Fairness in serving large language models" (2024).
    """

    def __init__(self, most: int, most_per_tenant: int) -> None:
        self._most = most
        self._most_per_tenant = most_per_tenant
        self._count = 0
        # Those who wait. Insertion order is the order of turns.
        self._tenants: dict[bytes, deque[Item]] = {}
        # Nobody counts as served less than the floor, which only rises. So whoever is not above
        # it can be forgotten, and the sums stay small.
        self._served: dict[bytes, int] = {}
        self._floor = 0
        self._last = b""

    def __len__(self) -> int:
        return self._count

    def put(self, tenant: bytes, item: Item) -> bool:
        """Returns whether there was room."""
        waiting = self._tenants.get(tenant, ())
        if self._count >= self._most or len(waiting) >= self._most_per_tenant:
            return False
        if not waiting:
            self._raise_floor()
        self._tenants.setdefault(tenant, deque()).append(item)
        self._count += 1
        return True

    def first(self) -> Item | None:
        """The next item, which stays in the queue; None when there is none."""
        return self._tenants[self._next()][0] if self._count else None

    def take(self) -> Item | None:
        """Remove the next item and return it.

        Among those who are served alike, its tenant's next turn is after all others'.
        """
        if not self._count:
            return None
        self._last = tenant = self._next()
        self._floor = self._served_so_far(tenant)
        waiting = self._tenants.pop(tenant)
        item = waiting.popleft()
        if waiting:
            self._tenants[tenant] = waiting
        self._count -= 1
        return item

    def begin(self, tenant: bytes, amount: int) -> None:
        """Count what a request of `tenant` gets as soon as it is served, taken from here or not."""
        if not self._tenants:
            self._raise_floor()
            self._last = tenant
        self.serve(tenant, amount)

    def serve(self, tenant: bytes, amount: int) -> None:
        """Count `amount` of service for `tenant`."""
        self._served[tenant] = self._served_so_far(tenant) + amount
        if len(self._served) > 2 * self._most:
            above = [each for each in self._served.items() if each[1] > self._floor]
            self._served = dict(nlargest(self._most, above, key=itemgetter(1)))

    def _next(self) -> bytes:
        if not self._served:
            return next(iter(self._tenants))
        return min(self._tenants, key=self._served_so_far)

    def _served_so_far(self, tenant: bytes) -> int:
        return max(self._served.get(tenant, 0), self._floor)

    def _raise_floor(self) -> None:
        """To the least served of those who wait or, if nobody does, to whoever was served last."""
        self._floor = self._served_so_far(self._next() if self._tenants else self._last)

    def remove(self, tenant: bytes, item: Item) -> None:
        """Remove `item`; nothing happens if it is not there."""
        waiting = self._tenants.get(tenant)
        if waiting is None or item not in waiting:
            return
        waiting.remove(item)
        self._count -= 1
        if not waiting:
            del self._tenants[tenant]


class QueuedRequest(Protocol):
    """What waits until a replica can take it. One of the two methods is called, once."""

    @property
    def request(self) -> Request: ...

    def on_replica_free(self, choice: Choice) -> None: ...

    def on_unroutable(self, error: ApiError) -> None:
        """No replica can serve the request any more."""
        ...


class RequestQueues:
    """A fair queue for each model; models take turns.

    Where several workers share the replicas each has its own queues, and has to `poll` for
    what ends in others.
    """

    def __init__(self, router: Router, admission: Admission, *, poll: bool = False) -> None:
        self._router = router
        self._admission = admission
        # Insertion order is the order of turns.
        self._queues: dict[str, FairQueue[QueuedRequest]] = {}
        self._dispatching = False
        self._poll = poll
        self._timer: asyncio.TimerHandle | None = None

    def put(self, model: str, tenant: bytes, queued: QueuedRequest) -> bool:
        """Returns whether there was room."""
        added = self.of(model).put(tenant, queued)
        if added and self._poll and self._timer is None:
            self._start_timer()
        return added

    def of(self, model: str) -> FairQueue[QueuedRequest]:
        """The queue of `model`."""
        queue = self._queues.get(model)
        if queue is None:
            most, most_per_tenant = self._admission.queued, self._admission.queued_per_tenant
            queue = self._queues[model] = FairQueue(most, most_per_tenant)
        return queue

    def remove(self, model: str, tenant: bytes, queued: QueuedRequest) -> None:
        self._queues[model].remove(tenant, queued)

    def waiting(self, model: str) -> bool:
        """Whether requests for `model` wait: later ones must not overtake them."""
        return bool(self._queues.get(model))

    def dispatch(self) -> None:
        """Hand out requests as long as replicas can take them, one of each model in turn."""
        if self._dispatching or not self._queues:  # a request that fails at once gets here again
            return
        self._dispatching = True
        try:
            while any(self._dispatch_one(model) for model in tuple(self._queues)):
                pass
        finally:
            self._dispatching = False

    def _dispatch_one(self, model: str) -> bool:
        """Returns whether a request for `model` has left the queue."""
        queue = self._queues[model]
        queued = queue.first()
        if queued is None:
            return False
        try:
            choice = self._router.choose(queued.request, time.monotonic())
        except ApiError as error:
            queue.take()
            queued.on_unroutable(error)
            return True
        if choice is None:
            return False
        self._queues[model] = self._queues.pop(model)
        queue.take()
        queued.on_replica_free(choice)
        return True

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_CHECK_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.dispatch()
        if any(self._queues.values()):
            self._start_timer()
