"""What a command and all processes that it starts cost."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.errors import UserError
from bench.process import Guarded, last_lines

_LOOK_EVERY_S = 0.5
_AT_MOST_S = 600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of all processes to their end, and the most memory that they had at once.

    The CPU time is the kernel's exact account of ended children (getrusage(2)), with the
    20 ms of the guard that started them. Shared pages count for each process.
    """

    cpu_s: float
    kernel_s: float
    rss_bytes: int


def cost_of(command: Sequence[str], log: Path, root: Path) -> Cost:
    """Run `command` in `root` to its end; output goes to `log`.

    Raises UserError when it fails or has not ended in ten minutes.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = Guarded(command, log=log, folder=root)
    most, looks = 0, 0
    try:
        while (code := process.wait(_LOOK_EVERY_S)) is None and looks < _AT_MOST_S / _LOOK_EVERY_S:
            most, looks = max(most, _rss_of_family(process.pid)), looks + 1
    finally:
        process.terminate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        how = f"has not ended in {_AT_MOST_S:.0f} s" if code is None else f"ended with {code}"
        raise UserError(f"{command[0]} {how}: {last_lines(log) or 'it said nothing'}; see {log}")
    kernel_s = after.ru_stime - before.ru_stime
    return Cost(after.ru_utime - before.ru_utime + kernel_s, kernel_s, most)


def _rss_of_family(guard: int) -> int:
    """The memory of all that the guard has started, which may end while one looks."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(guard).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def rss_at_most() -> int:
    """The most memory that this process, or any one that it has waited for, ever had."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whose) * 1024
