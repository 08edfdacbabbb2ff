"""Runs a tool to its end, or ends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.processes.guarded import Guarded


def run_bounded(name: str, command: Sequence[str], *, log: Path, limit_s: float) -> int:
    """Run `command`, a tool called `name`, in the folder of its `log`; its exit code.

    None of its processes is left, however this ends. Raises UserError if it has not ended
    after `limit_s` seconds.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    process = Guarded(command, log=log, folder=log.parent)
    try:
        code = process.wait(limit_s)
    finally:
        process.terminate()
    if code is None:
        raise UserError(f"{name} had not ended after {limit_s:.0f} s and was ended; see {log}")
    return code
