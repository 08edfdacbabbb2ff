"""CPU time and memory of a group of processes, from /proc (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.errors import UserError

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Stat:
    """One process. CPU time is that of all its threads, in user mode and in the kernel."""

    group: int
    user_ticks: int
    kernel_ticks: int
    resident_pages: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over processes. The CPU clock has steps of 10 ms; shared pages count for each.

    `kernel_s` is the part of `cpu_s` that was spent in system calls and interrupts.
    """

    cpu_s: float
    kernel_s: float
    rss_bytes: int

    def since(self, before: Usage) -> Usage:
        """The CPU time from `before` on, and the memory of now."""
        return Usage(self.cpu_s - before.cpu_s, self.kernel_s - before.kernel_s, self.rss_bytes)


def parse_stat(text: str) -> Stat:
    """Read /proc/PID/stat; the name in it may hold blanks and brackets."""
    fields = text.rpartition(")")[2].split()
    # Counted from `state`, which is field 3 in proc(5).
    return Stat(
        group=int(fields[2]),
        user_ticks=int(fields[11]),
        kernel_ticks=int(fields[12]),
        resident_pages=int(fields[21]),
    )


def usage(group: int, proc: Path = _PROC) -> Usage:
    """What the running processes of a process group have used, 0 if there are none."""
    members = [stat for stat in _stats(proc) if stat.group == group]
    second = os.sysconf("SC_CLK_TCK")
    kernel_ticks = sum(stat.kernel_ticks for stat in members)
    return Usage(
        cpu_s=(sum(stat.user_ticks for stat in members) + kernel_ticks) / second,
        kernel_s=kernel_ticks / second,
        rss_bytes=sum(stat.resident_pages for stat in members) * os.sysconf("SC_PAGE_SIZE"),
    )


def listening_group(port: int) -> int:
    """The process group that listens on `port`; each command of ours has one of its own.

    Raises UserError when no process is seen there.
    """
    for connection in psutil.net_connections("tcp"):
        address = connection.laddr
        listens = connection.status == psutil.CONN_LISTEN and address and address.port == port
        if listens and connection.pid is not None:
            return os.getpgid(connection.pid)
    raise UserError(f"no process is seen to listen on port {port}; run as the user who owns it")


def _stats(proc: Path) -> Iterator[Stat]:
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                yield parse_stat((folder / "stat").read_text(encoding="utf-8", errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
