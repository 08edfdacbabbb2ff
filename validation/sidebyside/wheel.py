"""A timing wheel: one timer for any number of streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SLOTS = 1024
_SLOT_S = 0.001


class Wheel:
    """Calls back on a grid of 1 ms.

    A timer or a task per stream would cost the source more than a proxy costs. A wheel
    that has fallen behind makes up for it, so that a stream keeps its rate.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: list[list[Callable[[], None]]] = [[] for _ in range(SLOTS)]
        self._now = 0
        self._waiting = 0
        self._due_s = 0.0

    def after(self, delay_ms: int, call: Callable[[], None]) -> None:
        """Call `call` in `delay_ms`, at least 1 and less than `SLOTS`."""
        if not self._waiting:
            self._due_s = self._loop.time() + _SLOT_S
            self._loop.call_later(_SLOT_S, self._turn)
        self._waiting += 1
        self._slots[(self._now + delay_ms) % SLOTS].append(call)

    def _turn(self) -> None:
        now_s = self._loop.time()
        while self._due_s <= now_s and self._waiting:
            self._now = (self._now + 1) % SLOTS
            self._due_s += _SLOT_S
            calls, self._slots[self._now] = self._slots[self._now], []
            for call in calls:
                call()
            self._waiting -= len(calls)
        if self._waiting:
            # Not what is left until `_due_s`: uvloop rounds that to 0, and spins.
            self._loop.call_later(_SLOT_S, self._turn)
