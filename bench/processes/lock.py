"""Files that one process at a time may lock."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bench.errors import UserError
from bench.progress import Progress

LOCK_POLL_S = 0.2


@contextmanager
def exclusive(path: Path, what: str, progress: Progress, timeout_s: float) -> Iterator[None]:
    """Hold the lock at `path`; `what` names it to the user, as in "waiting for the engines".

    The kernel releases it however this process ends. Raises UserError that names its holder after
    waiting `timeout_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if not _try_lock(file):
            _wait_for_lock(file, path, what, progress, timeout_s)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def _wait_for_lock(
    file: BinaryIO, path: Path, what: str, progress: Progress, timeout_s: float
) -> None:
    deadline_s = time.monotonic() + timeout_s
    with progress.step(f"waiting for {what}") as step:
        while not _try_lock(file):
            holder = path.read_text() or "unknown"
            if time.monotonic() > deadline_s:
                raise UserError(
                    f"{what} are in use by process {holder} after {timeout_s:.0f} s of waiting; "
                    "let that run end, or end it"
                )
            step.update(f"process {holder} has them")
            time.sleep(LOCK_POLL_S)


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
