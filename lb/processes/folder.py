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

    This process, and those that it forks, hold a lock on it. Folders of this user without such a
    lock are removed at the start: their balancers were killed. A file system may have no locks
    for folders, such as NFS; nothing is removed there.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            held = _lock(left)
            _remove(left)
            os.close(held)
    folder, descriptor = _new()
    try:
        yield folder
    finally:
        _remove(folder)
        if descriptor is not None:
            os.close(descriptor)


def _new() -> tuple[Path, int | None]:
    """A new folder, and the descriptor that holds its lock; None if it can have none."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Another balancer that starts now may take it for one that was left.
        try:
            descriptor = _lock(folder)
        except (FileNotFoundError, BlockingIOError):
            continue
        except OSError:
            return folder, None
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """The descriptor that holds the lock.

    Raises OSError: BlockingIOError if a process has it, others if `folder` is not this user's or
    cannot be locked.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # What belongs to another user may be a link by the time its sockets are removed.
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to another user")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(folder: Path) -> None:
    """Remove the sockets, and the folder if nothing else is in it."""
    with suppress(OSError):
        for name in (CONTROL, LINK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
