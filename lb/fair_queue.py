"""Who waits for a place, and whose turn it is: the tenants', one after the other.

A tenant that sends a thousand requests waits for itself; one that sends a single request
is next but for the other tenants.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

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
