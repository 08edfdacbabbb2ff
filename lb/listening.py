"""The socket that clients connect to, or one for each worker."""

from __future__ import annotations

import errno
import socket

from lb.errors import UserError

BACKLOG = 2048


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket (port 0: any free one). Raises UserError when it cannot be had.

    Any number of `shared` ones listen on one port, in one process or in several, and the
    system spreads connections over them.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UserError(f"--host {host!r} cannot be resolved: {error.strerror}") from None
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


def listen_for(host: str, port: int, workers: int, *, reuse_port: bool) -> list[socket.socket]:
    """One socket for each of `workers`, all on one port. Raises UserError like `listen`.

    Each has a queue of its own, which stays when its worker is started again. Without
    `reuse_port` it is made sure that no other program listens there, which sharing would
    not notice.
    """
    if workers == 1 and not reuse_port:
        return [listen(host, port)]
    if not reuse_port:
        with listen(host, port) as probe:
            port = probe.getsockname()[1]
    first = listen(host, port, shared=True)
    port = first.getsockname()[1]
    return [first, *(listen(host, port, shared=True) for _ in range(workers - 1))]
