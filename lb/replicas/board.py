"""What all worker processes have in flight: memory that they share, one row for each.

A worker writes its own row and reads the others', so nothing is ever locked. A cell is an
aligned 64-bit integer, which is read and written whole; cells that belong together may be
seen a moment apart, which routing does not mind.
"""

from __future__ import annotations

import mmap
import zlib
from dataclasses import dataclass

# Replicas that can be known at a time, those included that are being drained.
SLOTS = 2048

_CELL_BYTES = 8
# A row begins with a count of its changes and a sign of life, in nanoseconds.
_CHANGES, _ALIVE, _HEAD = 0, 1, 2
_IN_FLIGHT, _TOKENS, _TURN, _FIELDS = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the replica in each slot: sums over workers, and the latest turn of any."""

    in_flight: list[int]
    prompt_tokens: list[int]
    last_turn: list[int]


class Board:
    """`rows` rows of counts, shared with every process that is forked after this.

    The slot of a replica is kept on the board as well, under a hash of what it is: a
    control plane that is started again finds everyone where they were.
    """

    def __init__(self, rows: int, slots: int = SLOTS) -> None:
        self.rows = rows
        self.slots = slots
        self._row_cells = _HEAD + _FIELDS * slots
        cells = slots + rows * self._row_cells
        self._cells = memoryview(mmap.mmap(-1, cells * _CELL_BYTES)).cast("q")

    def row(self, index: int) -> Row:
        """The row of worker `index`, emptied: whatever it counted ended with it."""
        start = self.slots + index * self._row_cells
        cells = self._cells[start : start + self._row_cells]
        for cell in range(self._row_cells):
            if cells[cell]:
                cells[cell] = 0
        return Row(cells, self.slots)

    def changes(self, but: int | None) -> list[int]:
        """How often each row but one has changed."""
        return [self._cells[start + _CHANGES] for start in self._starts(but)]

    def counts(self, but: int | None, slots: int) -> Counts:
        """What all rows but one add up to, for the first `slots` slots."""
        in_flight, tokens, turns = (
            [
                self._cells[first : first + slots].tolist()
                for first in (start + _HEAD + field * self.slots for start in self._starts(but))
            ]
            for field in range(_FIELDS)
        )
        return Counts(
            in_flight=_sums(in_flight),
            prompt_tokens=_sums(tokens),
            last_turn=[max(column) for column in zip(*turns, strict=True)],
        )

    def alive_ns(self, index: int) -> int:
        """The latest sign of life of a worker; 0 before its first."""
        return self._cells[self.slots + index * self._row_cells + _ALIVE]

    def claim(self, identity: str) -> int | None:
        """The slot of a replica, taken at first use; None when all are taken."""
        key = _key(identity)
        taken = self._cells[: self.slots].tolist()
        for wanted in (key, 0):
            if wanted in taken:
                slot = taken.index(wanted)
                self._cells[slot] = key
                return slot
        return None

    def release(self, slot: int) -> None:
        """Let another replica have the slot. Nothing may be in flight on it."""
        self._cells[slot] = 0

    def _starts(self, but: int | None) -> list[int]:
        return [self.slots + index * self._row_cells for index in range(self.rows) if index != but]


class Row:
    """What one worker counts."""

    __slots__ = ("_cells", "_slots")

    def __init__(self, cells: memoryview[int], slots: int) -> None:
        self._cells = cells
        self._slots = slots

    def begin(self, slot: int, tokens: int, turn: int) -> None:
        """A request goes out, and that is the replica's latest turn."""
        cells, slots, first = self._cells, self._slots, _HEAD + slot
        cells[first] += 1
        cells[first + _TOKENS * slots] += tokens
        cells[first + _TURN * slots] = turn
        cells[_CHANGES] += 1

    def answered(self, slot: int, tokens: int) -> None:
        cells, slots, first = self._cells, self._slots, _HEAD + slot
        cells[first + _TOKENS * slots] -= tokens
        cells[_CHANGES] += 1

    def end(self, slot: int) -> None:
        self._cells[_HEAD + slot] -= 1
        self._cells[_CHANGES] += 1

    def alive(self, now_ns: int) -> None:
        """Give a sign of life."""
        self._cells[_ALIVE] = now_ns


def _sums(rows: list[list[int]]) -> list[int]:
    return rows[0] if len(rows) == 1 else [sum(column) for column in zip(*rows, strict=True)]


def _key(identity: str) -> int:
    """62 bits that stand for it, never 0."""
    data = identity.encode()
    return (zlib.crc32(data) << 30 | zlib.crc32(data, 1) >> 2) + 1
