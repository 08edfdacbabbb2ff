"""Whether every request is accounted for, and whether a balancer has kept what it should not."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.records import ErrorKind, Sample

# The status by which a balancer counts a client that left.
LEFT = 499
# What a process may grow by, once its pools are filled, before it counts as a leak.
GROWTH_BYTES = 8 * 2**20
_REQUESTS = re.compile(r'^lb_requests_total\{.*status="(\d+)"\} (\d+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reading:
    """All processes of a balancer while it has nothing to do: how many, memory, open files."""

    processes: int
    rss_bytes: int
    files: int


def read(pid: int) -> Reading:
    """The reading of a process and all that it has started."""
    parent = psutil.Process(pid)
    every = [parent, *parent.children(recursive=True)]
    return Reading(
        processes=len(every),
        rss_bytes=sum(one.memory_info().rss for one in every),
        files=sum(len(list(Path(f"/proc/{one.pid}/fd").iterdir())) for one in every),
    )


def counted(metrics: str) -> Counter[int]:
    """The requests that a balancer has counted, by status, in the text of its /metrics."""
    found = Counter[int]()
    for status, count in _REQUESTS.findall(metrics):
        found[int(status)] += int(count)
    return found


def statuses(samples: Sequence[Sample]) -> Counter[int]:
    """What a balancer should have counted for these requests, by status; 0: it did not answer."""
    return Counter(
        LEFT if one.error is ErrorKind.TIMEOUT else one.status or 0
        for one in samples
        if one.error is not ErrorKind.CONNECT
    )


def unaccounted(name: str, sent: Mapping[int, int], counts: Mapping[int, int]) -> Iterator[str]:
    """A line for each status that the client has seen more or less often than the balancer."""
    for status in sorted(sent.keys() | counts.keys()):
        ours, theirs = sent.get(status, 0), counts.get(status, 0)
        if ours != theirs:
            what = f"status {status}" if status else "requests without an answer"
            yield f"{name}: {what}: the client has {ours:,}, the balancer counts {theirs:,}"


def unexplained(name: str, samples: Sequence[Sample]) -> Iterator[str]:
    """A line for failures without a reason, and for those that are the client's or balancer's."""
    wrong = Counter(
        f"{one.error}: {one.detail}"
        for one in samples
        if one.error in {ErrorKind.CLIENT, ErrorKind.CONNECT} or (one.error and not one.detail)
    )
    for reason, count in wrong.most_common(3):
        yield f"{name}: {count} requests failed for no fault of a replica ({reason})"


def leaks(name: str, readings: Sequence[Reading], files: int) -> Iterator[str]:
    """A line for what has grown from the second quarter of the readings to the last one.

    `files` is how many more may be open than before: connections that are kept.
    """
    quarter = len(readings) // 4
    if not quarter:
        yield f"{name}: {len(readings)} readings say nothing of leaks; let it run for longer"
        return
    before, after = readings[quarter : 2 * quarter], readings[-quarter:]
    processes = {one.processes for one in (*before, *after)}
    if len(processes) > 1:
        yield f"{name}: it has had {' and '.join(map(str, sorted(processes)))} processes"
    grown = _grown(before, after, lambda one: one.rss_bytes)
    if grown > GROWTH_BYTES * max(processes):
        yield (
            f"{name}: its memory has grown by {grown / 2**20:.1f} MiB;"
            f" {GROWTH_BYTES // 2**20} MiB for each of {max(processes)} processes are allowed"
        )
    opened = _grown(before, after, lambda one: one.files)
    if opened > files:
        yield f"{name}: {opened:.0f} more files are open; {files} are allowed"


def _grown(
    before: Sequence[Reading], after: Sequence[Reading], of: Callable[[Reading], int]
) -> float:
    return statistics.median(map(of, after)) - statistics.median(map(of, before))
