"""Accepts clients from a listening socket, as fast as there are descriptors for them.

An event loop's own server accepts every client at once. When descriptors run out it closes
their connections, or stops for good.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from lb.descriptors import too_high_for_anyone

logger = logging.getLogger("lb")

# Those that have been accepted are served before more are accepted.
_AT_ONCE = 64
# Without descriptors, clients wait so long in the system's queue until it is tried again.
_PAUSE_S = 0.02


class Acceptor:
    """Gives each client of `listener` a protocol from `make`; closes `listener` at the end."""

    def __init__(self, listener: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        self._listener = listener
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._paused: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._start()

    async def close(self) -> None:
        """Accept the clients in the system's queue, which closing would reset, then close."""
        self._stop()
        while self._accept_one():
            pass
        self._stop()
        self._listener.close()
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _start(self) -> None:
        self._paused = None
        self._loop.add_reader(self._listener, self._accept)

    def _stop(self) -> None:
        self._loop.remove_reader(self._listener)
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        """Returns whether there may be another client to accept now."""
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            logger.warning("clients cannot be accepted for now: %s", error.strerror)
            self._pause()
            return False
        task = self._loop.create_task(self._connect(client))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        if too_high_for_anyone(client.fileno()):
            self._pause()
            return False
        return True

    def _pause(self) -> None:
        self._stop()
        self._paused = self._loop.call_later(_PAUSE_S, self._start)

    async def _connect(self, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, client)
        except OSError as error:
            logger.warning("a client was accepted and lost: %s", error.strerror)
            client.close()
