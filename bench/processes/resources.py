"""Room for many connections: each is an open file, and those are limited."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import psutil

from bench.errors import UserError

_OTHERS = 500


def allow_connections(connections: int) -> None:
    """Let this process, and what it starts, have so many connections open at once.

    Raises UserError when the machine's limit is lower.
    """
    allowed = allow_connections_up_to(connections)
    if allowed < connections:
        raise UserError(
            f"{connections:,} connections at once need {connections + _OTHERS:,} open files, "
            f"{allowed + _OTHERS:,} are allowed; raise ulimit -Hn"
        )


def allow_connections_up_to(connections: int) -> int:
    """Allow so many or, where the machine's limit is lower, as many as it lets: the number."""
    needed = connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit - _OTHERS


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Run on `cores`, and start there what is started: threads count the cores they find."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


LOOPBACK = "127.0.0.1"


def free_ports(first: int, reserved: Collection[int]) -> Iterator[int]:
    """Ports from `first` upwards that nobody listens on and that are not reserved."""
    return (port for port in range(first, 65536) if port not in reserved and is_free(port))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port that only has closed connections left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """The process that listens on `port`, as far as this user may see it."""
    for connection in psutil.net_connections("tcp"):
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port:
            return _describe(connection.pid)
    return "a process that cannot be seen from here"


def _describe(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    try:
        return f"process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f"process {pid}"
