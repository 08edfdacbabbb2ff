"""Listening sockets go from a balancer to the one that replaces it.

Closing a listening socket resets the connections in its queue, and more may come until the
very moment. So the new balancer takes those of the old one and listens on the same queues:
when the old one closes them nothing is lost. They are passed over unix sockets with abstract
names, which are seen in the same network namespace, as ports are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lb.endpoint import authority

logger = logging.getLogger("lb")

_MOST = 250  # that a message may carry, by the system's rules
_TIMEOUT_S = 2.0
_CREDENTIALS = struct.Struct("3i")  # process, user, group


@contextmanager
def offered(listeners: Sequence[socket.socket]) -> Iterator[None]:
    """A context in which a balancer of the same user gets `listeners` when it asks."""
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


def take_over(address: tuple[str, int]) -> list[socket.socket]:
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


def _give(offer: socket.socket, listeners: Sequence[socket.socket]) -> None:
    try:
        asker, _ = offer.accept()
    except OSError:
        return  # it has left
    with asker:
        if _trusted(asker):
            socket.send_fds(asker, [b"."], [listener.fileno() for listener in listeners][:_MOST])


def _ask(name: str) -> list[socket.socket]:
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(_TIMEOUT_S)
        try:
            asker.connect(f"\0{name}")
            if not _trusted(asker):
                return []
            _, descriptors, _, _ = socket.recv_fds(asker, 1, _MOST)
        except OSError as error:
            # Without its sockets this one still serves, beside it.
            logger.warning("a running balancer did not hand over its sockets: %s", error)
            return []
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def _trusted(peer: socket.socket) -> bool:
    """Whether the process at the other end is of this user, or the system's."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(credentials)[1] in {0, os.geteuid()}


def _prefix(address: tuple[str, int]) -> str:
    return f"lb-listeners/{authority(*address[:2])}/"


def _names(prefix: str) -> list[str]:
    """Abstract names that begin with `prefix` and are listened at."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return []
    names = (line.rpartition(" ")[2] for line in lines)
    return [name[1:] for name in names if name.startswith(f"@{prefix}")]
