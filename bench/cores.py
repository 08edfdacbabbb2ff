"""Which cores a process runs on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Run on `cores`, and start there what is started: threads count the cores they find."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
