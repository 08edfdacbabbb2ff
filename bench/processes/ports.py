"""TCP ports of this machine: which are free, and who holds the others."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable, Iterator

import psutil

LOOPBACK = "127.0.0.1"


def free_ports(first: int, reserved: Collection[int]) -> Iterator[int]:
    """TCP ports from `first` upwards that nobody listens on and that are not reserved."""
    return (port for port in range(first, 65536) if port not in reserved and is_free(port))


def is_free(port: int) -> bool:
    """Whether a server could listen on TCP port `port`."""
    with socket.socket() as probe:
        # As servers do: a port that only has closed connections left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts_connections(port: int) -> bool:
    """Whether something on this machine listens on TCP port `port`."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def port_holder(port: int) -> str:
    """The process that listens on TCP port `port`, as far as this user may see it."""
    for _, pid in _listening({port}):
        if pid is None:
            return "a process of another user"
        try:
            return f"process {pid} ({psutil.Process(pid).name()})"
        except psutil.Error:
            return f"process {pid}"
    return "a process that cannot be seen from here"


def listeners(ports: Iterable[int]) -> tuple[int, ...]:
    """The processes that listen on some TCP ports, as far as this user may see them."""
    return tuple({pid for _, pid in _listening(set(ports)) if pid is not None})


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(ports: Collection[int]) -> Iterator[tuple[int, int | None]]:
    """Each of `ports` that somebody listens on, with the process; None for another user's."""
    for connection in psutil.net_connections("tcp"):
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port in ports:
            yield address.port, connection.pid
