"""What the processes of this machine share: TCP ports, and files that one of them locks."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import psutil

from bench.errors import UserError
from bench.progress import Progress

LOOPBACK = "127.0.0.1"
LOCK_POLL_S = 0.2


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


def port_holder(port: int) -> str:
    """The process that listens on TCP port `port`, as far as this user may see it."""
    for connection in psutil.net_connections("tcp"):
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port:
            if connection.pid is None:
                return "a process of another user"
            try:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.Error:
                return f"process {connection.pid}"
    return "a process that cannot be seen from here"


@contextmanager
def exclusive(path: Path, what: str, progress: Progress, timeout_s: float) -> Iterator[None]:
    """Hold the lock at `path`; `what` names it to the user, as in "waiting for the engines".

    The kernel releases it however this process ends. Raises UserError that names its holder after
    waiting `timeout_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if not _try_lock(file):
            _wait_for_lock(file, path, what, progress, timeout_s)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def _wait_for_lock(
    file: BinaryIO, path: Path, what: str, progress: Progress, timeout_s: float
) -> None:
    deadline_s = time.monotonic() + timeout_s
    with progress.step(f"waiting for {what}") as step:
        while not _try_lock(file):
            holder = path.read_text() or "unknown"
            if time.monotonic() > deadline_s:
                raise UserError(
                    f"{what} are in use by process {holder} after {timeout_s:.0f} s of waiting; "
                    "let that run end, or end it"
                )
            step.update(f"process {holder} has them")
            time.sleep(LOCK_POLL_S)


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
