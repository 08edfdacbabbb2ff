"""What all workers have in flight: a table in shared memory, a row for each worker.

A worker writes its own row and reads those of others, without locks. A cell is an aligned
64-bit integer, which is read and written at once. Cells that change together may be read
between the two changes; routing tolerates that.
"""

from __future__ import annotations

import mmap
import zlib
from dataclasses import dataclass

# Replicas that there can be at a time, draining ones included.
COLUMNS = 2048

_CELL_BYTES = 8
# A row begins with the number of its changes, and the time of the worker's last sweep in ns.
_CHANGES, _ALIVE, _HEAD = 0, 1, 2
_IN_FLIGHT, _TOKENS, _TURN, _FIELDS = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the replica in each column: sums over workers, and the latest turn of any worker."""

    in_flight: list[int]
    prompt_tokens: list[int]
    last_turn: list[int]


class Board:
    """A table that is shared with every process that is forked after this one is made.

    Which replica has which column is kept on it as well, by a hash of the replica's identity:
    a control plane that is restarted finds the columns as they were.
    """

    def __init__(self, rows: int, columns: int = COLUMNS) -> None:
        self.rows = rows
        self.columns = columns
        self._row_cells = _HEAD + _FIELDS * columns
        cells = columns + rows * self._row_cells
        self._cells = memoryview(mmap.mmap(-1, cells * _CELL_BYTES)).cast("q")

    def row(self, index: int) -> Row:
        """The row of worker `index`, set to 0: what an earlier worker counted has ended."""
        start = self.columns + index * self._row_cells
        cells = self._cells[start : start + self._row_cells]
        for cell in range(self._row_cells):
            if cells[cell]:
                cells[cell] = 0
        return Row(cells, self.columns)

    def changes(self, but: int | None) -> list[int]:
        """How often each row has changed, without row `but`."""
        return [self._cells[start + _CHANGES] for start in self._starts(but)]

    def counts(self, but: int | None, columns: int) -> Counts:
        """The first `columns` columns of all rows but `but`, added up."""
        in_flight, tokens, turns = (
            [
                self._cells[first : first + columns].tolist()
                for first in (start + _HEAD + field * self.columns for start in self._starts(but))
            ]
            for field in range(_FIELDS)
        )
        return Counts(
            in_flight=_sums(in_flight),
            prompt_tokens=_sums(tokens),
            last_turn=[max(each) for each in zip(*turns, strict=True)],
        )

    def alive_ns(self, index: int) -> int:
        """When worker `index` last called `Row.alive`; 0 if it has not yet."""
        return self._cells[self.columns + index * self._row_cells + _ALIVE]

    def claim(self, identity: str) -> int | None:
        """The column of the replica `identity`, a free one at first; None if all are taken."""
        key = _key(identity)
        taken = self._cells[: self.columns].tolist()
        for wanted in (key, 0):
            if wanted in taken:
                column = taken.index(wanted)
                self._cells[column] = key
                return column
        return None

    def release(self, column: int) -> None:
        """Free the column, of which all counts must be 0."""
        self._cells[column] = 0

    def _starts(self, but: int | None) -> list[int]:
        return [self.columns + row * self._row_cells for row in range(self.rows) if row != but]


class Row:
    """The counts of one worker."""

    __slots__ = ("_cells", "_columns")

    def __init__(self, cells: memoryview[int], columns: int) -> None:
        self._cells = cells
        self._columns = columns

    def begin(self, column: int, tokens: int, turn: int) -> None:
        """A request is sent; `turn` is the replica's latest turn."""
        cells, columns, first = self._cells, self._columns, _HEAD + column
        cells[first] += 1
        cells[first + _TOKENS * columns] += tokens
        cells[first + _TURN * columns] = turn
        cells[_CHANGES] += 1

    def answered(self, column: int, tokens: int) -> None:
        cells, columns, first = self._cells, self._columns, _HEAD + column
        cells[first + _TOKENS * columns] -= tokens
        cells[_CHANGES] += 1

    def end(self, column: int) -> None:
        self._cells[_HEAD + column] -= 1
        self._cells[_CHANGES] += 1

    def alive(self, now_ns: int) -> None:
        """Note that this worker does not hang."""
        self._cells[_ALIVE] = now_ns


def _sums(rows: list[list[int]]) -> list[int]:
    return rows[0] if len(rows) == 1 else [sum(each) for each in zip(*rows, strict=True)]


def _key(identity: str) -> int:
    """A hash of 62 bits, never 0."""
    data = identity.encode()
    return (zlib.crc32(data) << 30 | zlib.crc32(data, 1) >> 2) + 1
