"""This machine: the suite's own programs as its processes, its TCP ports, and files to lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

import psutil

from bench.errors import UserError
from bench.processes.program import GRACE_S, Program, end_message
from bench.progress import Progress

LOOPBACK = "127.0.0.1"
LOCK_POLL_S = 0.2
_ROOT = Path(__file__).parents[2]
_AT_ONCE = 1 << 20
_LAST_BYTES = 4096


class LocalSite:
    """This machine, for as many shards as are wanted."""

    name = "local"
    shards: int | None = None
    one_clock = True

    def start(self, module: str, arguments: Sequence[str], shard: int) -> LocalProgram:
        """Start a program; it is the same for all shards."""
        del shard  # all run on this machine
        return LocalProgram([sys.executable, "-m", module, *arguments])

    def facts(self) -> Mapping[str, Any]:
        """The name alone: the facts of the machine are the environment's."""
        return {"name": self.name}


class LocalProgram(Program):
    """A process. Its input is a pipe, which the kernel closes however this process ends."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__()
        self._errors = os.memfd_create("errors")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=_ROOT,
            # Ctrl-C reaches this process, which ends its programs in order.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._end: str | None = None
        self._sending = threading.Lock()

    def send(self, data: bytes) -> None:
        with self._sending, contextlib.suppress(BrokenPipeError):
            self._stdin.write(data)
            self._stdin.flush()

    def ended(self) -> str | None:
        code = self._process.poll()
        if code is None or self._end:
            return self._end
        length = os.fstat(self._errors).st_size
        errors = os.pread(self._errors, _LAST_BYTES, max(0, length - _LAST_BYTES))
        return end_message(code if code >= 0 else 128 - code, errors)

    def close(self) -> None:
        if not self._sending.acquire(timeout=GRACE_S):
            self._process.kill()  # it does not read what another thread sends
            self._sending.acquire()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._sending.release()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._reading:  # a reader has found the end of the output by now
            self._stdout.close()
            if self._end is None:
                self._end = self.ended()
                os.close(self._errors)

    def _receive(self, deadline_s: float) -> bytes:
        if self._stdout.closed:
            raise UserError(self.ended() or "it was ended")
        ready = select.poll()
        ready.register(self._stdout, select.POLLIN)
        if not ready.poll(max(0.0, deadline_s - monotonic()) * 1000):
            return b""
        received = os.read(self._stdout.fileno(), _AT_ONCE)
        if not received:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
            raise UserError(self.ended() or "it closed its output")
        return received


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
    deadline_s = monotonic() + timeout_s
    with progress.step(f"waiting for {what}") as step:
        while not _try_lock(file):
            holder = path.read_text() or "unknown"
            if monotonic() > deadline_s:
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
