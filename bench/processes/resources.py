"""What the machine gives this process: open files, and cores."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import UserError

# Open files besides connections.
_OTHERS = 500


def allow_connections(connections: int) -> None:
    """Raise the limit of this process, and of what it starts, to so many connections at once.

    Raises UserError when the machine's limit is lower.
    """
    allowed = allow_connections_up_to(connections)
    if allowed < connections:
        raise UserError(
            f"{connections:,} connections at once need {connections + _OTHERS:,} open files, "
            f"{allowed + _OTHERS:,} are allowed; raise ulimit -Hn"
        )


def allow_connections_up_to(connections: int) -> int:
    """Like `allow_connections`, or as many as the machine's limit allows; returns the number."""
    needed = connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit - _OTHERS


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Run on `cores` within the context, and start programs there.

    Many programs start a thread for each core that they may use.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_name() -> str:
    """The processor's name from the kernel, or the architecture."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
