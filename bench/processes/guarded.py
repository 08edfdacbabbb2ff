"""Child processes that cannot outlive this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")


class Guarded:
    """A command that ends with this process, even when this process is killed with -9.

    Its output goes to `log`. It gets SIGTERM, and after `grace_s` seconds SIGKILL,
    together with every process of its group.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        folder: Path | None = None,
        grace_s: float = 5.0,
    ) -> None:
        """Start `command` in `folder`; one that cannot be started exits with code 127."""
        self.log = log
        self._grace_s = grace_s
        log.parent.mkdir(parents=True, exist_ok=True)
        # -I -S: the guard needs the standard library only, and starts in 15 ms.
        guard = [sys.executable, "-I", "-S", str(GUARD), str(grace_s), *command]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                guard,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                # Ctrl-C reaches this process, which stops its children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that guards the command, and is its parent."""
        return self._guard.pid

    def poll(self) -> int | None:
        """Exit code, 128 + n after signal n; None while it runs."""
        return self._guard.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Like `poll`, after waiting for at most `timeout_s` seconds."""
        try:
            return self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def ask_to_end(self) -> None:
        """Let it get its SIGTERM, and do not wait. Safe to repeat."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    def terminate(self) -> None:
        """End it and all it started; returns when that is done. Safe to repeat."""
        self.ask_to_end()
        self._guard.wait()


def last_lines(log: Path, count: int = 1) -> str:
    """The last `count` non-empty lines of a log; empty if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join([line for line in lines if line.strip()][-count:])
