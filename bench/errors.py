"""Errors that a user can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """A mistake, or a state of the machine, that the user can correct.

    The message is one line: what was wrong, what was seen, what to do. It is shown without a
    traceback, and ends the run with a non-zero exit code.
    """


@contextmanager
def writing(path: Path | None = None) -> Iterator[None]:
    """Turn an OSError, as of a full disk, into a UserError that names `path`, else its file."""
    try:
        yield
    except OSError as error:
        named = path or error.filename or "a file"
        raise UserError(
            f"cannot write {named}: {error.strerror}; free some space or mend the folder"
        ) from error
