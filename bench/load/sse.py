"""Server-sent events out of timed pieces of a body (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bench.load.exchange import Piece


class Event(NamedTuple):
    """One event and the arrival of the piece that completed it."""

    at_s: float
    name: str
    data: str


def events(pieces: Iterable[Piece]) -> Iterator[Event]:
    """The events in `pieces`, however the bytes are cut.

    Lines end with LF or CRLF. Comments and fields other than `event` and `data` are
    skipped; an event that no blank line has ended is dropped, as the standard says.
    """
    name, data = "", list[str]()
    for at_s, line in _lines(pieces):
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
        else:
            if data:
                yield Event(at_s, name or "message", "\n".join(data))
            name, data = "", []


def _lines(pieces: Iterable[Piece]) -> Iterator[tuple[float, str]]:
    rest = b""
    for at_s, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield at_s, line.removesuffix(b"\r").decode(errors="replace")
