"""How much the blocks of earlier comparisons spread, so that the next one can say what it finds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from bench.store.files import strict_json, write_whole

# Of each comparison, the latest runs: engines and machines change.
KEPT = 10

Spreads = list[tuple[float, int]]
_FILE = TypeAdapter(dict[str, Spreads])


@dataclass(frozen=True, slots=True)
class NoiseStore:
    """A file with, for each kind of comparison, the spread of each run and its blocks.

    A file that is damaged counts as none: it only tells what to expect.
    """

    path: Path

    def known(self, kind: str) -> Spreads:
        """The spreads of a kind of comparison, the oldest run first."""
        return self._read().get(kind, [])

    def remember(self, kind: str, spread: float, blocks: int) -> None:
        """Add a run. Raises UserError when the disk does not take it."""
        written = self._read()
        written[kind] = [*written.get(kind, []), (spread, blocks)][-KEPT:]
        write_whole(self.path, strict_json(self.path, written))

    def _read(self) -> dict[str, Spreads]:
        try:
            return _FILE.validate_python(json.loads(self.path.read_bytes()))
        except (OSError, ValueError, RecursionError):  # pydantic's error is a ValueError
            return {}
