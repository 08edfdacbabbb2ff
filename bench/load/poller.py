"""Which sockets have bytes: one epoll(7) for all of them inside the event loop."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable

_AT_ONCE = 256


class Poller:
    """Calls back for every socket that has something to read.

    With a chunk per read, an asyncio transport costs more than what is done with the
    chunk. Here one turn of the running loop serves all sockets that are ready, each with
    no more than a call, so that its time stamp waits for little else.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._loop.add_reader(self._epoll.fileno(), self._serve)

    def add(self, sock: socket.socket, read: Callable[[], None]) -> None:
        """Call `read` whenever `sock` has bytes, has ended or is broken.

        It must then read or `remove` the socket, and may remove no other.
        """
        self._readers[sock.fileno()] = read
        self._epoll.register(sock, select.EPOLLIN)

    def remove(self, sock: socket.socket) -> None:
        """Call no more for `sock`, which is still open."""
        self._epoll.unregister(sock)
        del self._readers[sock.fileno()]

    def close(self) -> None:
        """Call for none any more. Their owners close the sockets."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._readers.clear()

    def _serve(self) -> None:
        readers = self._readers
        for number, _ in self._epoll.poll(0, _AT_ONCE):
            readers[number]()
