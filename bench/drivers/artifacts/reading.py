"""Reading files that somebody else's program wrote."""

from __future__ import annotations

import codecs
from pathlib import Path

from bench.errors import UserError


def read_text(path: Path) -> str:
    """The text of a file, but for a last character that is cut: it was being written.

    Raises UserError where there is none.
    """
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise damaged(path, f"not UTF-8 text at byte {error.start}") from error


def damaged(path: Path, why: str) -> UserError:
    """What to raise for a file that does not hold what its name promises."""
    return UserError(f"{path} is damaged or of another tool: {' '.join(why.split())}")
