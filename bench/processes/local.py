"""The suite's own programs as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from bench.errors import UserError
from bench.paths import PYTHON, ROOT
from bench.processes.program import GRACE_S, Program, end_message

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
        return LocalProgram([*PYTHON, "-m", module, *arguments])

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
            cwd=ROOT,
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
