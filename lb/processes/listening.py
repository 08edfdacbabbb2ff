"""The socket that clients connect to, or one for each worker."""

from __future__ import annotations

import errno
import socket
from typing import Any

from lb.errors import UserError
from lb.processes.handover import take_over

BACKLOG = 2048


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket (port 0: any free one). Raises UserError when it cannot be had.

    Any number of `shared` ones listen on one port, in one process or in several, and the
    system spreads connections over them.
    """
    family, kind, protocol, address = _resolve(host, port)
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} on {host} is in use, free it or choose another with --port"
        else:
            message = f"cannot listen on {host} port {port}: {error.strerror}"
        raise UserError(message) from None
    return listener


def listen_for(
    host: str, port: int, workers: int, *, reuse_port: bool
) -> list[list[socket.socket]]:
    """Sockets for each of `workers`, all on one port. Raises UserError like `listen`.

    Each has a queue of its own, which stays when its worker is started again. With
    `reuse_port` those of a balancer that runs there already are taken over. Without it is
    made sure that no other program listens there, which sharing would not notice.
    """
    if workers == 1 and not reuse_port:
        return [[listen(host, port)]]
    listeners: list[socket.socket] = []
    if not reuse_port:
        with listen(host, port) as probe:
            port = probe.getsockname()[1]
    elif port:
        *_, address = _resolve(host, port)
        listeners = take_over((address[0], port))
    while len(listeners) < workers:
        listeners.append(listen(host, port, shared=True))
        port = listeners[0].getsockname()[1]
    return [listeners[index::workers] for index in range(workers)]


def _resolve(host: str, port: int) -> tuple[int, int, int, tuple[Any, ...]]:
    """Family, kind, protocol and address to listen with."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UserError(f"--host {host!r} cannot be resolved: {error.strerror}") from None
    return family, kind, protocol, address
