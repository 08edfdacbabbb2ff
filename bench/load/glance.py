"""Reads the pieces of a stream that are nothing but one HTTP chunk each."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from bench.load.exchange import Exchange

# More than the largest record of TLS, so that none of it is left where epoll cannot see it.
READ_BYTES = 64 * 1024
_CRLF = b"\r\n"
_KNOWN = 4096


def _whole_chunks() -> list[tuple[bytes, slice]]:
    """By its length: how a read begins that is one whole chunk, and where the chunk's body is."""
    shapes = [(b"not a chunk", slice(0))] * _KNOWN
    for size in range(1, _KNOWN):
        line = b"%x\r\n" % size
        if (length := len(line) + size + len(_CRLF)) < _KNOWN:
            shapes[length] = (line, slice(len(line), -len(_CRLF)))
    return shapes


_WHOLE_CHUNKS = _whole_chunks()


def glancing(
    receive: Callable[[int], bytes],
    exchange: Exchange,
    failed: Callable[[OSError], bool],
    otherwise: Callable[[float, bytes], bool],
) -> Callable[[], bool]:
    """A reader for `exchange`, to be called when `receive` has something between two chunks.

    A read that is one whole chunk is told by its length and its first line: nothing needs
    to parse it. Whatever else comes, and when, goes to `otherwise`. A closure, because this
    is done for every token that is measured, and attributes cost as much as the work.
    """
    add, stamp = exchange.body.append, exchange.body_s.append
    shapes, known, crlf = _WHOLE_CHUNKS, _KNOWN, _CRLF

    def read() -> bool:
        try:
            data = receive(READ_BYTES)
        except OSError as error:
            return failed(error)
        at_s = monotonic()
        if (length := len(data)) < known:
            line, body = shapes[length]
            if data.startswith(line) and data.endswith(crlf):
                add(data[body])
                stamp(at_s)
                return False
        return otherwise(at_s, data)

    return read
