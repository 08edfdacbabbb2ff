"""Programs as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from bench.errors import UserError
from bench.processes.program import Heard

_ROOT = Path(__file__).parents[2]
_AT_ONCE = 1 << 20
# From the end of its output, or of its input, to its own end.
_GRACE_S = 5.0
_LAST_WORDS = 4096


class LocalSite:
    """As many places as are wanted, all on this machine."""

    name = "local"
    shards: int | None = None
    one_clock = True

    def start(self, module: str, arguments: Sequence[str], place: int) -> LocalProgram:
        """Start a program; all places are alike."""
        if place < 0:
            raise UserError(f"there is no place {place}")
        return LocalProgram([sys.executable, "-m", module, *arguments])

    def facts(self) -> Mapping[str, Any]:
        """Nothing but its name: the machine is told elsewhere."""
        return {"name": self.name}


class LocalProgram:
    """A process. Its input is a pipe, which the kernel closes however this process ends."""

    def __init__(self, command: Sequence[str]) -> None:
        self._words = os.memfd_create("words")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            cwd=_ROOT,
            # Ctrl-C reaches this process, which ends its programs in order.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._heard = Heard()
        self._over: str | None = None
        self._reading = threading.Lock()
        self._sending = threading.Lock()

    def send(self, data: bytes) -> None:
        """Write to its standard input; nothing happens if it has ended."""
        with self._sending, contextlib.suppress(BrokenPipeError):
            self._input.write(data)
            self._input.flush()

    def line(self, timeout_s: float) -> bytes:
        """The next line of its standard output; see `Program`."""
        with self._reading:
            return self._heard.line(self._hearing(timeout_s))

    def read(self, size: int, timeout_s: float) -> bytes:
        """The next `size` bytes of its standard output; see `Program`."""
        with self._reading:
            return self._heard.read(size, self._hearing(timeout_s))

    def ended(self) -> str | None:
        """Its exit code, 128 + n after signal n, and its last words; None while it runs."""
        code = self._process.poll()
        if code is None or self._over:
            return self._over
        said = self._last_words()
        return f"it ended with {code if code >= 0 else 128 - code}" + (
            f": {said}" if said else " and said nothing"
        )

    def close(self) -> None:
        """End it; safe to repeat."""
        if not self._sending.acquire(timeout=_GRACE_S):
            self._process.kill()  # it does not take in what another thread sends
            self._sending.acquire()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._sending.release()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._reading:  # whoever reads finds the end of its output now
            self._output.close()
            if self._over is None:
                self._over = self.ended()
                os.close(self._words)

    def _hearing(self, timeout_s: float) -> Callable[[], None]:
        deadline_s = monotonic() + timeout_s
        return lambda: self._hear(deadline_s, timeout_s)

    def _hear(self, deadline_s: float, timeout_s: float) -> None:
        """Take in what it writes. Raises UserError when that is not possible, or too late."""
        if self._output.closed:
            raise UserError(self.ended() or "it was ended")
        ready = select.poll()
        ready.register(self._output, select.POLLIN)
        if not ready.poll(max(0.0, deadline_s - monotonic()) * 1000):
            raise UserError(f"it said nothing for {timeout_s:g} s")
        heard = os.read(self._output.fileno(), _AT_ONCE)
        if not heard:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
            raise UserError(self.ended() or "it closed its output")
        self._heard.add(heard)

    def _last_words(self) -> str:
        length = os.fstat(self._words).st_size
        said = os.pread(self._words, _LAST_WORDS, max(0, length - _LAST_WORDS))
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""
