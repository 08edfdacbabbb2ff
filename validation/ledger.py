"""A ledger: a line of JSON for each thing that was measured, appended at its end, never changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter

from bench.errors import UserError
from bench.store.files import write_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Entry = TypeVar("Entry", bound=DataclassInstance)


def read_ledger(path: Path, kind: type[Entry]) -> list[Entry]:
    """All entries, in the order in which they were measured; `kind` is their dataclass.

    Raises UserError, with the line, for what is no entry.
    """
    adapter = TypeAdapter(kind)
    entries = []
    for number, line in enumerate(_bytes(path).splitlines(), 1):
        try:
            entries.append(adapter.validate_json(line))
        except ValueError as error:
            raise UserError(
                f"{path}:{number} is no entry of the ledger: {str(error).splitlines()[0]}; "
                "mend or remove the line"
            ) from None
    return entries


def append(path: Path, entries: Iterable[DataclassInstance]) -> None:
    """Add entries; they are on disk when this returns, and never half of one.

    Raises UserError when they cannot be written.
    """
    lines = (json.dumps(asdict(entry), allow_nan=False).encode() + b"\n" for entry in entries)
    write_whole(path, _bytes(path) + b"".join(lines))


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
