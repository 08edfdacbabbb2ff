"""Run a command to its end and take what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.process import Guarded


def output_of(command: Sequence[str], log: Path, timeout_s: float = 20.0) -> str:
    """What `command` prints on either stream, whatever its exit code; `log` is replaced.

    Raises UserError if it has not ended in time.
    """
    log.unlink(missing_ok=True)
    process = Guarded(command, log=log)
    try:
        code = process.wait(timeout_s)
    finally:
        process.terminate()
    if code is None:
        raise UserError(f"{command[0]} has not ended after {timeout_s:g} s; see {log}")
    return log.read_text(encoding="utf-8", errors="replace")


def first_line(command: Sequence[str], log: Path) -> str:
    """The first line that `command` prints, such as its version; "unknown" if none."""
    return next(iter(output_of(command, log).splitlines()), "unknown").strip()
