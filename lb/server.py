"""A balancer as a process: its socket, its event loop, its end."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

import uvicorn

from lb.app import create_app
from lb.errors import UserError
from lb.settings import Settings

# Open streams get this long to end after SIGTERM or SIGINT.
_GRACE_S = 5
_BACKLOG = 2048
# Longer than clients keep idle connections, so that it is they who close them.
_KEEP_ALIVE_S = 75


def listen(host: str, port: int) -> socket.socket:
    """A listening socket (port 0: any free one). Raises UserError when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UserError(f"--host {host!r} cannot be resolved: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


def make_server(settings: Settings, grace_s: int = _GRACE_S) -> uvicorn.Server:
    """A server of the balancer, to be run with a listening socket."""
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        date_header=False,  # replicas send their own
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=grace_s,
    )
    return uvicorn.Server(config)


def serve(settings: Settings, listener: socket.socket) -> None:
    """Run until SIGTERM or SIGINT, which exit with 0."""
    # uvicorn handles both signals while it serves, and afterwards raises what it got
    # again, for the handlers that it found.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    make_server(settings).run(sockets=[listener])


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
