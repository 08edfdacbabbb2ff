"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from bench.errors import UserError, writing


def write_whole(path: Path, data: bytes) -> None:
    """Write `path` at once: all of `data`, or nothing. Raises UserError if that is not possible."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def strict_json(path: Path, value: Any) -> bytes:
    """JSON for `path`. Raises UserError for values that JSON does not have, such as NaN."""
    try:
        return json.dumps(value, allow_nan=False, indent=1).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"cannot write {path}: {error}; give JSON values only") from error
