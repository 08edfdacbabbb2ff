"""Room for many connections: each is an open file, and those are limited."""

from __future__ import annotations

import os
import resource
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from bench.errors import UserError

_OTHERS = 500


def allow_connections(connections: int) -> None:
    """Let this process, and what it starts, have so many connections open at once.

    Raises UserError when the machine's limit is lower.
    """
    allowed = allow_connections_up_to(connections)
    if allowed < connections:
        raise UserError(
            f"{connections:,} connections at once need {connections + _OTHERS:,} open files, "
            f"{allowed + _OTHERS:,} are allowed; raise ulimit -Hn"
        )


def allow_connections_up_to(connections: int) -> int:
    """Allow so many or, where the machine's limit is lower, as many as it lets: the number."""
    needed = connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit - _OTHERS


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Run on `cores`, and start there what is started: threads count the cores they find."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
