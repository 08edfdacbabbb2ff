"""A ledger: a line of JSON for each thing that was measured, appended at its end, never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter

from bench.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Entry = TypeVar("Entry", bound=DataclassInstance)


def read_ledger(path: Path, kind: type[Entry]) -> list[Entry]:
    """All entries, in the order in which they were measured; `kind` is their dataclass.

    Raises UserError, with the line, for what is no entry.
    """
    adapter = TypeAdapter(kind)
    entries = []
    text = path.read_text("utf-8") if path.exists() else ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entries.append(adapter.validate_python(json.loads(line)))
        except ValueError as error:
            raise UserError(
                f"{path}:{number} is no entry of the ledger: {str(error).splitlines()[0]}; "
                "mend or remove the line"
            ) from None
    return entries


def append(path: Path, entries: Iterable[DataclassInstance]) -> None:
    """Add entries; they are on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for entry in entries:
            file.write(json.dumps(asdict(entry), allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
