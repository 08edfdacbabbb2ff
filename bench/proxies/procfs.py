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
    """One process. CPU time is user and system time of all its threads."""

    group: int
    cpu_ticks: int
    resident_pages: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over processes. The CPU clock has steps of 10 ms; shared pages count for each."""

    cpu_s: float
    rss_bytes: int


def parse_stat(text: str) -> Stat:
    """Read /proc/PID/stat; the name in it may hold blanks and brackets."""
    fields = text.rpartition(")")[2].split()
    # Counted from `state`, which is field 3 in proc(5).
    return Stat(
        group=int(fields[2]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        resident_pages=int(fields[21]),
    )


def usage(group: int, proc: Path = _PROC) -> Usage:
    """What the running processes of a process group have used, 0 if there are none."""
    members = [stat for stat in _stats(proc) if stat.group == group]
    return Usage(
        cpu_s=sum(stat.cpu_ticks for stat in members) / os.sysconf("SC_CLK_TCK"),
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
