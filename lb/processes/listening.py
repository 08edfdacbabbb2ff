"""Listening sockets: opened or taken over from a running balancer, and accepted from.

Closing a listening socket resets the connections in its queue. So a new balancer takes over the
sockets of the one that it replaces: they share the queues, and nothing is lost when the old one
closes its copies. Sockets are sent over unix sockets with abstract names, which are visible in
the same network namespace, as ports are.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lb.errors import UserError
from lb.http.descriptors import too_high_for_anyone
from lb.http.endpoint import authority

logger = logging.getLogger("lb")

_BACKLOG = 2048
_MAX_DESCRIPTORS = 250  # that a message may carry, by the system's rules
_TIMEOUT_S = 2.0
# Clients that are accepted before any of them is served.
_ACCEPTED_AT_ONCE = 64
# The pause without descriptors, in which clients stay in the system's queue.
_PAUSE_S = 0.02
_CREDENTIALS = struct.Struct("3i")  # process, user, group


def listen_for(
    host: str, port: int, workers: int, *, reuse_port: bool
) -> list[list[socket.socket]]:
    """Sockets for each of `workers`, all on one port. Raises UserError, as `listen` does.

    Each has a queue of its own, which stays when its worker is restarted. With `reuse_port`
    the sockets of a running balancer are taken over. Without, this fails if another program
    listens on the port.
    """
    if workers == 1 and not reuse_port:
        return [[listen(host, port)]]
    listeners: list[socket.socket] = []
    if not reuse_port:
        with listen(host, port) as probe:
            port = probe.getsockname()[1]
    elif port:
        *_, address = _resolve(host, port)
        listeners = _take_over((address[0], port))
    while len(listeners) < workers:
        listeners.append(listen(host, port, shared=True))
        port = listeners[0].getsockname()[1]
    return [listeners[index::workers] for index in range(workers)]


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket (port 0: any free one). Raises UserError if it cannot be opened.

    Several `shared` ones can listen on one port: the system spreads connections over them.
    """
    family, kind, protocol, _, address = _resolve(host, port)
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} on {host} is in use, free it or choose another with --port"
        else:
            message = f"cannot listen on {host} port {port}: {error.strerror}"
        raise UserError(message) from None
    return listener


@contextmanager
def offered(listeners: Sequence[socket.socket]) -> Iterator[None]:
    """A context in which a new balancer of the same user can take over `listeners`."""
    address = listeners[0].getsockname()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as offer:
        offer.setblocking(False)
        offer.bind(f"\0{_prefix(address)}{secrets.token_hex(4)}")
        offer.listen()
        loop.add_reader(offer, _give, offer, listeners)
        try:
            yield
        finally:
            loop.remove_reader(offer)


def _resolve(host: str, port: int) -> tuple[int, int, int, str, tuple[Any, ...]]:
    """Family, kind, protocol, "" and address to listen with."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise UserError(f"--host {host!r} cannot be resolved: {error.strerror}") from None
    return found[0]


def _give(offer: socket.socket, listeners: Sequence[socket.socket]) -> None:
    try:
        peer, _ = offer.accept()
    except OSError:
        return  # the peer has left
    with peer:
        if _trusted(peer):
            descriptors = [listener.fileno() for listener in listeners]
            socket.send_fds(peer, [b"."], descriptors[:_MAX_DESCRIPTORS])


def _take_over(address: tuple[str, int]) -> list[socket.socket]:
    """The listening sockets of all balancers that offer some at `address`, each once."""
    taken: dict[int, socket.socket] = {}
    for name in _names(_prefix(address)):
        for listener in _ask(name):
            inode = os.fstat(listener.fileno()).st_ino
            if inode in taken or listener.getsockname()[:2] != address[:2]:
                listener.close()
            else:
                taken[inode] = listener
    return list(taken.values())


def _ask(name: str) -> list[socket.socket]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(_TIMEOUT_S)
        try:
            peer.connect(f"\0{name}")
            if not _trusted(peer):
                return []
            _, descriptors, _, _ = socket.recv_fds(peer, 1, _MAX_DESCRIPTORS)
        except OSError as error:
            # Without these sockets this balancer still serves, beside the other.
            logger.warning("a running balancer did not hand over its sockets: %s", error)
            return []
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def _trusted(peer: socket.socket) -> bool:
    """Whether the process at the other end is of this user, or of root."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(credentials)[1] in {0, os.geteuid()}


def _prefix(address: tuple[str, int]) -> str:
    return f"lb-listeners/{authority(*address[:2])}/"


def _names(prefix: str) -> list[str]:
    """Abstract names of listening unix sockets that begin with `prefix`."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return []
    names = (line.rpartition(" ")[2] for line in lines)
    return [name[1:] for name in names if name.startswith(f"@{prefix}")]


class Acceptor:
    """Gives each client of `listener` a protocol from `make`, until it is closed.

    An event loop's own server accepts every client at once. Without descriptors it closes their
    connections, or stops accepting for good.
    """

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
        for _ in range(_ACCEPTED_AT_ONCE):
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
