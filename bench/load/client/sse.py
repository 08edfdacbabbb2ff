"""Server-sent events out of pieces of a body (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from typing import NamedTuple

UNNAMED = "message"
_LINE_END = re.compile(rb"\r\n|\r|\n")


class Event(NamedTuple):
    """One event."""

    name: str
    data: str


class EventReader:
    """Reads a stream piece by piece, wherever the bytes are cut.

    Lines end with CR, LF or CRLF, and a byte order mark at the start is no part of the first.
    Comments and fields other than `event` and `data` are skipped; an event that no blank line
    has ended is dropped, as the standard says.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line that has not ended
        self._name = ""
        self._data: list[str] = []
        self._first = True
        self._after_cr = False

    @property
    def between_events(self) -> bool:
        """Whether the next byte begins a new event."""
        return not (self._rest or self._name or self._data)

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes."""
        after_cr = self._after_cr
        if piece:
            self._after_cr = piece.endswith(b"\r")
        if after_cr:
            # A CR has ended its line already; an LF behind it belongs to it.
            piece = piece.removeprefix(b"\n")
        completed = []
        *lines, rest = _LINE_END.split(piece)
        if lines:
            lines[0] = b"".join((*self._rest, lines[0]))
            self._rest.clear()
            if self._first:
                lines[0], self._first = lines[0].removeprefix(BOM_UTF8), False
        if rest:
            self._rest.append(rest)
        for line in lines:
            if line:
                self._take_field(line.decode(errors="replace"))
                continue
            if self._data:
                completed.append(Event(self._name or UNNAMED, "\n".join(self._data)))
            self._name, self._data = "", []
        return completed

    def _take_field(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
