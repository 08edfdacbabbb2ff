"""Blocks of bytes between lines of text: a line with the length, then so many bytes, packed.

For both sides: whoever holds a `Program`, and the program itself at its standard streams.
"""

from __future__ import annotations

import io
import zlib

from bench.errors import UserError
from bench.sites.base import Program

END = b"end\n"
# Most of it are numbers and words: the fastest level makes a third of them.
_LEVEL = 1
_AT_ONCE = 1 << 20


def block(data: bytes) -> bytes:
    """`data` as it is sent."""
    packed = zlib.compress(data, _LEVEL)
    return b"%d\n%b" % (len(packed), packed)


def read_block(program: Program, timeout_s: float) -> bytes:
    """The next block that `program` writes. Raises UserError when there is none."""
    size = program.line(timeout_s)
    if not size.isdigit():
        raise UserError(f"it said {size[:80]!r} where the length of its result was due")
    try:
        return zlib.decompress(program.read(int(size), timeout_s))
    except zlib.error as error:
        raise UserError(f"what it wrote is damaged: {error}") from None


def take_block(stream: io.FileIO) -> bytes:
    """The next block of a program's own input. Raises EOFError when that ends before."""
    size = int(stream.readline() or -1)
    packed = bytearray()
    while len(packed) != size:
        part = stream.read(min(_AT_ONCE, max(0, size - len(packed))))
        if not part:
            raise EOFError
        packed += part
    return zlib.decompress(packed)
