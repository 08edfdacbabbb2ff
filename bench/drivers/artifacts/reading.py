"""Reading files that somebody else's program wrote."""

from __future__ import annotations

from pathlib import Path

from bench.errors import UserError


def read_text(path: Path) -> str:
    """The text of a file. Raises UserError where there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise damaged(path, f"not UTF-8 text at byte {error.start}") from error


def damaged(path: Path, why: str) -> UserError:
    """What to raise for a file that does not hold what its name promises."""
    return UserError(f"{path} is damaged or of another tool: {' '.join(why.split())}")
