"""The folder with a balancer's unix sockets, and what killed balancers have left of theirs."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Names of the sockets.
CONTROL, LINK = "control", "link"

_PREFIX = "lb-sockets-"


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder that only this user can read; it is removed at the end.

    This process, and those that it forks, hold a lock on it. Folders without such a lock are
    removed at the start: their balancers were killed.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        descriptor = _lock(left)
        if descriptor is not None:
            _remove(left)
            os.close(descriptor)
    folder, descriptor = _new()
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(descriptor)


def _new() -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        descriptor = _lock(folder)
        if descriptor is not None and folder.exists():
            return folder, descriptor
        # Another balancer that starts now took it for one that was left.
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """The descriptor that holds the lock; None if a process has it, or `folder` is not ours."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(folder: Path) -> None:
    """Remove the sockets, and the folder if nothing else is in it."""
    with suppress(OSError):
        for name in (CONTROL, LINK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
