"""File descriptors: each connection needs one, and a process may have a limited number."""

from __future__ import annotations

import errno
import os
import resource

_MAX = 2**20
# Shares of the limit, each including the one before: for clients that are served, clients that are
# refused, and connections to replicas. The rest is for polls, probes and files, which have to be
# possible at all times.
_FOR_CLIENTS = 0.4
_FOR_REFUSALS = 0.5
_FOR_REQUESTS = 0.85
# The system's errors when this machine, not a peer, has nothing left (EADDRNOTAVAIL: no port).
_EXHAUSTED = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)


def raise_limit() -> None:
    """Raise the limit of this process as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX if hard == resource.RLIM_INFINITY else min(hard, _MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """The number of descriptors that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX if soft == resource.RLIM_INFINITY else soft


# The system uses the lowest free number: a new descriptor shows how many are in use.


def too_high_for_client(descriptor: int) -> bool:
    """Whether a new client with this descriptor is one too many to be served."""
    return descriptor >= _FOR_CLIENTS * limit()


def too_high_for_anyone(descriptor: int) -> bool:
    """Whether accepting has to pause after a client with this descriptor."""
    return descriptor >= _FOR_REFUSALS * limit()


def too_high_for_request(descriptor: int) -> bool:
    """Whether a new connection to a replica has a descriptor that is reserved for polls."""
    return descriptor >= _FOR_REQUESTS * limit()


def exhausted(error: OSError) -> bool:
    """Whether `error` means that this process or machine has nothing left, not that a peer failed.

    A failed look-up of a name may mean either, so a descriptor is tried.
    """
    return error.errno in _EXHAUSTED or not _any_left()


def _any_left() -> bool:
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno not in _EXHAUSTED
    return True
