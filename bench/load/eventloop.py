"""An event loop that reads its busiest sockets while it waits, and wakes up on time."""

from __future__ import annotations

import asyncio
import math
import select
import selectors
import socket
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_AT_ONCE = 256
_EPOLL_RESOLUTION_S = 1e-3
# select(2) takes no descriptors from this one on.
_SELECT_LIMIT = 1024

Read = Callable[[], bool]
"""Reads a socket that has bytes; whether something is now for the loop to do."""


class DirectSelector(selectors.BaseSelector):
    """What an asyncio loop waits with; sockets that are `watch`ed are served in here.

    A chunk per read is what an LLM streams, and a turn of any event loop costs more than
    what is done with the chunk. Here a chunk costs a wait, a read and a call; the loop gets
    its turn when its own sockets are ready, a timer is due, or a reader says so.

    Timers may be late by a millisecond, except at `punctual_s` of time.monotonic().
    """

    def __init__(self) -> None:
        self.punctual_s = math.inf
        self._loops = selectors.EpollSelector()
        self._epoll = select.epoll()
        self._epoll.register(self._loops.fileno(), select.EPOLLIN)
        self._readers: dict[int, Read] = {}
        self._asked: int = self._loops.fileno()
        self._precise = self._epoll.fileno() < _SELECT_LIMIT

    def watch(self, sock: socket.socket, read: Read) -> None:
        """Call `read` whenever `sock` has bytes, has ended or is broken.

        It must then read or `forget` the socket, and may forget no other.
        """
        self._epoll.register(sock, select.EPOLLIN)
        self._readers[sock.fileno()] = read

    def change(self, sock: socket.socket, read: Read) -> None:
        """From now on, call `read` for a socket that is watched."""
        self._readers[sock.fileno()] = read

    def forget(self, sock: socket.socket) -> None:
        """Call no more for `sock`, which is still open."""
        self._epoll.unregister(sock)
        del self._readers[sock.fileno()]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The loop's sockets that are ready, after serving those that are watched."""
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
                return self._loops.select(0)
            if wanted or monotonic() >= until_s:
                return []

    def _wait(self, until_s: float) -> list[tuple[int, int]]:
        """Which sockets have something; none before long when the time has come, or has nearly."""
        if until_s == math.inf:
            return self._epoll.poll(None, _AT_ONCE)
        left_s = max(0.0, until_s - monotonic())
        if until_s < self.punctual_s - _EPOLL_RESOLUTION_S or not self._precise:
            return self._epoll.poll(left_s, _AT_ONCE)  # rounds up
        if left_s >= _EPOLL_RESOLUTION_S:
            return self._epoll.poll(left_s - _EPOLL_RESOLUTION_S, _AT_ONCE)
        # epoll_wait(2) knows milliseconds, select(2) microseconds. To wake up twice costs
        # as much as ten chunks, hence the difference.
        select.select((self._epoll,), (), (), left_s)
        return self._epoll.poll(0, _AT_ONCE)

    # What the loop asks for is left to the selector of the standard library.

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        return self._loops.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._loops.unregister(fileobj)

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        return self._loops.modify(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._loops.get_map()

    def close(self) -> None:
        self._epoll.close()
        self._loops.close()


class DirectLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose `direct` selector serves the sockets that it is told to watch."""

    def __init__(self) -> None:
        self.direct = DirectSelector()
        super().__init__(self.direct)
