"""CPU time: of processes and what they start, and whose it was on some cores.

On the cores that the bench, its engines and its balancers may use, CPU time is their own, that
of other processes of the machine, or taken by the machine's host. From /proc (proc(5)).
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.analysis.checks import ValidityBounds
from bench.progress import Step

_STAT = Path("/proc/stat")
# Columns after the name: user, nice, system, idle, iowait, irq, softirq, steal.
_BUSY = slice(0, 3)
_STEAL = 7
_ALL = slice(0, 8)
# The part of the cores' time that the kernel must account for; with less, its figures are wrong.
_ACCOUNTED = 0.5
# How long CPU time is measured for: long enough for shares of it to mean something.
_SAMPLE_S = 2.0
# A short job is over by then; a machine that stays busy must be freed by its user.
QUIET_LIMIT_S = 60.0
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds of some cores since the machine was started.

    `busy_s` was spent in processes, in user mode and in system calls. Interrupts are not in
    it: some kernels count them to whatever process they interrupt and some do not, and time
    that no process used must not count as others'. `counted_s` is everything, idling too.
    """

    busy_s: float
    stolen_s: float
    counted_s: float


@dataclass(frozen=True, slots=True)
class CpuShares:
    """Shares of the cores' time, 0 to 1; None where they cannot be known."""

    foreign: float | None
    stolen: float | None


class CpuWatch:
    """Watches from when it is made until `stop`.

    `roots` are processes whose time is the bench's own, with all that they have started,
    as is this process; None where what serves runs elsewhere or is not known. `cores` are
    all those that any of them may use.
    """

    def __init__(self, roots: Collection[int] | None, cores: Collection[int]) -> None:
        self._roots = None if roots is None else {*roots, os.getpid()}
        self._cores = cores
        self._started_s, self._times, self._own_s = self._read()

    def stop(self) -> CpuShares:
        """The shares of CPU time since then."""
        at_s, times, own_s = self._read()
        cores_s = (at_s - self._started_s) * len(self._cores)
        spent_s = None if self._own_s is None or own_s is None else own_s - self._own_s
        return cpu_shares(self._times, times, spent_s, cores_s)

    def _read(self) -> tuple[float, CpuTimes | None, float | None]:
        text = _STAT.read_text(encoding="utf-8") if _STAT.exists() else ""
        own_s = None if self._roots is None else usage(self._roots).cpu_s
        return time.monotonic(), read_cores(text, self._cores), own_s


def cpu_shares(
    before: CpuTimes | None, after: CpuTimes | None, own_s: float | None, cores_s: float
) -> CpuShares:
    """The shares between two readings, in which `own_s` of the CPU time were our own.

    `cores_s` is wall time times cores.
    """
    if before is None or after is None or cores_s <= 0:
        return CpuShares(None, None)
    if after.counted_s - before.counted_s < _ACCOUNTED * cores_s:
        return CpuShares(None, None)  # as in sandboxes that show zeros
    stolen = _share(after.stolen_s - before.stolen_s, cores_s)
    if own_s is None:
        return CpuShares(None, stolen)
    return CpuShares(_share(after.busy_s - before.busy_s - own_s, cores_s), stolen)


def read_cores(stat: str, cores: Collection[int]) -> CpuTimes | None:
    """Sums over `cores` from the text of /proc/stat; None unless it has them all."""
    wanted = {f"cpu{core}" for core in cores}
    rows = [
        [int(field) for field in fields]
        for name, *fields in map(str.split, filter(None, stat.splitlines()))
        if name in wanted
    ]
    if len(rows) < len(wanted) or any(len(row) <= _STEAL for row in rows):
        return None
    second = os.sysconf("SC_CLK_TCK")
    return CpuTimes(
        busy_s=sum(sum(row[_BUSY]) for row in rows) / second,
        stolen_s=sum(row[_STEAL] for row in rows) / second,
        counted_s=sum(sum(row[_ALL]) for row in rows) / second,
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """What some processes have used. The CPU clock has steps of 10 ms.

    `kernel_s` is the part of `cpu_s` that was spent in system calls and interrupts. Memory
    pages that processes share count for each of them.
    """

    cpu_s: float
    kernel_s: float
    rss_bytes: int

    def since(self, before: Usage) -> Usage:
        """The CPU time from `before` on, and the memory of now."""
        return Usage(self.cpu_s - before.cpu_s, self.kernel_s - before.kernel_s, self.rss_bytes)


def usage(roots: Collection[int]) -> Usage:
    """What the processes `roots` and all they have started have used.

    Processes that have ended are in the CPU time, and not in the memory.
    """
    times, resident = dict[int, Sequence[float]](), dict[int, int]()
    children = defaultdict[int, list[int]](list)
    for process in psutil.process_iter(["ppid", "cpu_times", "memory_info"]):
        seen = process.info
        if seen["cpu_times"] is not None and seen["memory_info"] is not None:
            times[process.pid], resident[process.pid] = seen["cpu_times"], seen["memory_info"].rss
            children[seen["ppid"]].append(process.pid)
    found = [pid for pid in _descent(roots, children) if pid in times]
    # user, system, and the same of children that have ended. The running ones have their own.
    return Usage(
        cpu_s=sum(sum(times[pid][:4]) for pid in found),
        kernel_s=sum(times[pid][1] + times[pid][3] for pid in found),
        rss_bytes=sum(resident[pid] for pid in found),
    )


def children_of(pid: int) -> set[int]:
    """The processes that process `pid` has started and that run; none if it has ended."""
    try:
        return {child.pid for child in psutil.Process(pid).children()}
    except psutil.NoSuchProcess:
        return set()


def measure_shares(roots: Collection[int] | None, cores: Collection[int]) -> CpuShares:
    """The shares within the next 2 s; see `CpuWatch`."""
    watch = CpuWatch(roots, cores)
    time.sleep(_SAMPLE_S)
    return watch.stop()


def cpu_of_others(own: Collection[int]) -> dict[tuple[int, str], float]:
    """CPU seconds of all processes by pid and name, without `own` and what those have started."""
    children, used = defaultdict[int, list[int]](list), dict[tuple[int, str], float]()
    for process in psutil.process_iter(["ppid", "name", "cpu_times"]):
        seen = process.info
        children[seen["ppid"]].append(process.pid)
        if seen["cpu_times"] is not None:
            used[process.pid, seen["name"]] = sum(seen["cpu_times"][:2])
    ours = _descent(own, children)
    return {who: cpu_s for who, cpu_s in used.items() if who[0] not in ours}


def busiest(
    before: Mapping[tuple[int, str], float], after: Mapping[tuple[int, str], float]
) -> list[str]:
    """Names and pids of the processes that used most CPU between two readings, at most three."""
    used = {who: cpu_s - before.get(who, 0.0) for who, cpu_s in after.items()}
    ranked = sorted(used, key=lambda who: -used[who])
    return [f"{name} ({pid})" for pid, name in ranked[:_MOST_NAMED] if used[pid, name] > 0]


def await_quiet(
    roots: Collection[int] | None,
    cores: Collection[int],
    bounds: ValidityBounds,
    step: Step,
    *,
    limit_s: float = QUIET_LIMIT_S,
    measure: Callable[[Collection[int] | None, Collection[int]], CpuShares] = measure_shares,
) -> bool:
    """Wait until other programs' share of `cores` is within `bounds`; name those meanwhile.

    Returns whether it is, after at most `limit_s` seconds; True where it cannot be measured.
    `roots` are the bench's own processes. `measure` waits and returns the shares.
    """
    began_s = time.monotonic()
    own = {*(roots or ()), os.getpid()}
    while True:
        before = cpu_of_others(own)
        shares = measure(roots, cores)
        foreign, stolen = shares.foreign or 0.0, shares.stolen or 0.0
        if foreign <= bounds.foreign_cpu_share and stolen <= bounds.stolen_cpu_share:
            return True
        waited_s = time.monotonic() - began_s
        if waited_s >= limit_s:
            return False
        if foreign > bounds.foreign_cpu_share:
            names = ", ".join(busiest(before, cpu_of_others(own)))
            what = f"other programs, which take {foreign:.0%} of the machine: {names}"
        else:
            what = f"the machine's host, which takes {stolen:.0%} of its time"
        step.update(f"waiting {waited_s:.0f} s of at most {limit_s:.0f} for {what}")


def _descent(roots: Collection[int], children: Mapping[int, Sequence[int]]) -> set[int]:
    found, waiting = set[int](), list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


def _share(part_s: float, whole_s: float) -> float:
    return min(1.0, max(0.0, part_s / whole_s))
