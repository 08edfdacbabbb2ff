"""File descriptors: each connection is one, and a process may have only so many."""

from __future__ import annotations

import errno
import os
import resource

_MOST = 2**20
# Shares of those that are allowed, each on top of the one before: for clients that are served,
# for some that are refused, and for connections to replicas. The rest is for polls, probes
# and files, which have to be possible at all times.
_FOR_CLIENTS = 0.4
_FOR_REFUSALS = 0.5
_FOR_REQUESTS = 0.85
# What the system says when this machine, and not a peer, has nothing left; EADDRNOTAVAIL: no port.
_EXHAUSTED = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)


def raise_limit() -> None:
    """Allow this process as many as the system lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """How many this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


# The system gives out the lowest free number, so a high one tells how many are in use.


def too_high_for_client(descriptor: int) -> bool:
    """Whether a new client's is one beyond the share of those who are served."""
    return descriptor >= _FOR_CLIENTS * limit()


def too_high_for_anyone(descriptor: int) -> bool:
    """Whether after this new client's nobody else should be accepted for now."""
    return descriptor >= _FOR_REFUSALS * limit()


def too_high_for_request(descriptor: int) -> bool:
    """Whether a new connection to a replica has one that is kept for other things."""
    return descriptor >= _FOR_REQUESTS * limit()


def exhausted(error: OSError) -> bool:
    """Whether `error` says that this process or machine has run out, not that a peer failed.

    A name that cannot be looked up may be either, which only trying tells.
    """
    return error.errno in _EXHAUSTED or not _any_left()


def _any_left() -> bool:
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno not in _EXHAUSTED
    return True
