"""Who a process is: its number alone is recycled by the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process number and its start time in clock ticks since boot (proc(5))."""

    pid: int
    start: int


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has this number now; None if there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is a name in parentheses that may hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    state, start = fields[0], int(fields[19])
    return None if state in "ZX" else ProcessIdentity(pid, start)


def is_alive(process: ProcessIdentity) -> bool:
    return identify(process.pid) == process
