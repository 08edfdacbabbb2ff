"""An event loop that reads watched sockets while it waits, and wakes up on time."""

from __future__ import annotations

import asyncio
import math
import select
import selectors
import socket
from collections.abc import Callable
from time import monotonic

_AT_ONCE = 256
_EPOLL_RESOLUTION_S = 1e-3
# select(2) takes no descriptors from this one on.
_SELECT_LIMIT = 1024

Read = Callable[[], bool]
"""Reads a socket that has bytes. Returns whether the loop now has work to do."""


class DirectSelector(selectors.EpollSelector):
    """The selector of an asyncio loop; it reads sockets that are `watch`ed by itself.

    An LLM streams one chunk per read, and a turn of any event loop costs more than the work on
    the chunk. Here a chunk costs a wait, a read and a call. The loop runs when its own sockets
    are ready, a timer is due, or a reader returns True.

    Timers may be late by a millisecond, except at `punctual_s` of time.monotonic().
    """

    def __init__(self) -> None:
        super().__init__()
        self.punctual_s = math.inf
        self._epoll = select.epoll()
        # The loop's own sockets, which the standard selector keeps, are waited for as one.
        self._epoll.register(self.fileno(), select.EPOLLIN)
        self._readers: dict[int, Read] = {}
        self._asked = self.fileno()
        self._precise = self._epoll.fileno() < _SELECT_LIMIT

    def watch(self, sock: socket.socket, read: Read) -> None:
        """Call `read` whenever `sock` has bytes, has ended or is broken.

        `read` must then read or `forget` this socket, and may forget no other.
        """
        self._epoll.register(sock, select.EPOLLIN)
        self._readers[sock.fileno()] = read

    def change(self, sock: socket.socket, read: Read) -> None:
        """Call `read`, from now on, for a socket that is watched."""
        self._readers[sock.fileno()] = read

    def forget(self, sock: socket.socket) -> None:
        """Stop watching `sock`, which is still open."""
        self._epoll.unregister(sock)
        del self._readers[sock.fileno()]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Read the watched sockets that are ready. Returns the loop's sockets that are ready."""
        until_s = math.inf if timeout is None else monotonic() + timeout
        readers, asked = self._readers, self._asked
        while True:
            wanted, ready = False, False
            for number, _ in self._wait(until_s):
                if number == asked:
                    ready = True
                elif readers[number]():
                    wanted = True
            if ready:
                return super().select(0)
            if wanted or monotonic() >= until_s:
                return []

    def _wait(self, until_s: float) -> list[tuple[int, int]]:
        """The sockets that are ready; an empty list at `until_s`, or up to 1 ms before it."""
        if until_s == math.inf:
            return self._epoll.poll(None, _AT_ONCE)
        left_s = max(0.0, until_s - monotonic())
        if until_s < self.punctual_s - _EPOLL_RESOLUTION_S or not self._precise:
            return self._epoll.poll(left_s, _AT_ONCE)  # rounds up
        if left_s >= _EPOLL_RESOLUTION_S:
            return self._epoll.poll(left_s - _EPOLL_RESOLUTION_S, _AT_ONCE)
        # epoll_wait(2) counts milliseconds, select(2) microseconds. Waking up twice costs as
        # much as ten chunks, so select is used only near the time.
        select.select((self._epoll,), (), (), left_s)
        return self._epoll.poll(0, _AT_ONCE)

    def close(self) -> None:
        self._epoll.close()
        super().close()


class DirectLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose selector, `direct`, reads watched sockets."""

    def __init__(self) -> None:
        self.direct = DirectSelector()
        super().__init__(self.direct)
