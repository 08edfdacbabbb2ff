"""Room for many connections: each is an open file, and those are limited."""

from __future__ import annotations

import resource

from bench.errors import UserError

_OTHERS = 500


def allow_open_files(connections: int) -> None:
    """Let this process, and what it starts, have so many connections open at once.

    Raises UserError when the machine's limit is lower.
    """
    needed = connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"{connections} connections need {needed} open files, {hard} are allowed; "
            "raise ulimit -Hn"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
