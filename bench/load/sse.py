"""Server-sent events out of pieces of a body (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """One event."""

    name: str
    data: str


class EventReader:
    """Reads a stream piece by piece, however the bytes are cut.

    Lines end with LF or CRLF. Comments and fields other than `event` and `data` are
    skipped; an event that no blank line has ended is dropped, as the standard says.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    @property
    def between_events(self) -> bool:
        """Whether the next byte begins an event, with nothing of another before it."""
        return not (self._rest or self._name or self._data)

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes."""
        completed = []
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if text := line.removesuffix(b"\r").decode(errors="replace"):
                self._take_field(text)
                continue
            if self._data:
                completed.append(Event(self._name or "message", "\n".join(self._data)))
            self._name, self._data = "", []
        return completed

    def _take_field(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
