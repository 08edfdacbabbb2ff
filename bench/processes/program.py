"""What every site offers, and a program that runs on one."""

from __future__ import annotations

import io
import os
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from bench.errors import UserError


class Program(Protocol):
    """One program of the suite under way. One thread may read while another one sends."""

    def send(self, data: bytes) -> None:
        """Write to its standard input; nothing happens if it has ended, which reading tells."""
        ...

    def line(self, timeout_s: float) -> bytes:
        """The next line of its standard output, without its end.

        Raises UserError when the program has ended, or says nothing for `timeout_s` seconds.
        """
        ...

    def read(self, size: int, timeout_s: float) -> bytes:
        """The next `size` bytes of its standard output. Raises UserError like `line`."""
        ...

    def ended(self) -> str | None:
        """How it ended, with its last words; None while it runs."""
        ...

    def close(self) -> None:
        """End it, whatever it does; returns when that is done. Safe to repeat."""
        ...


class Site(Protocol):
    """Places for programs. `shards` is how many there are for a load, None: as many as wanted.

    With `one_clock` all of them, and this process, share CLOCK_MONOTONIC.
    """

    name: str
    shards: int | None
    one_clock: bool

    def start(self, module: str, arguments: Sequence[str], place: int) -> Program:
        """Start `python -m module arguments` in a place, counted from 0.

        Raises UserError where there is no such place, or it cannot be reached.
        """
        ...

    def facts(self) -> Mapping[str, Any]:
        """Provenance: where the places are. JSON values."""
        ...


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


Hear = Callable[[], None]
"""Takes in more of what is said; raises UserError where no more will come, or not in time."""


class Heard:
    """Bytes as they came, given out as lines and in blocks."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def add(self, data: bytes) -> None:
        """Take in what was said."""
        self._waiting += data

    def line(self, hear: Hear) -> bytes:
        """The next line, without its end; `hear` is called until there is one."""
        looked_at = 0
        while (end := self._waiting.find(b"\n", looked_at)) < 0:
            looked_at = len(self._waiting)
            hear()
        return self._take(end + 1)[:-1]

    def read(self, size: int, hear: Hear) -> bytes:
        """The next `size` bytes; `hear` is called until they are there."""
        while len(self._waiting) < size:
            hear()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._waiting[:size])
        del self._waiting[:size]
        return taken


def standard_input() -> io.FileIO:
    """Standard input as it comes: nothing is read ahead of whoever reads next.

    The buffered one must not be read in a thread: Python aborts if it ends meanwhile.
    """
    return io.FileIO(0, closefd=False)


def heed_input(at_end: Callable[[], None]) -> None:
    """From now on call `at_end`, in another thread, when the input says `end`.

    When it is closed, nobody is there any more to take a result: the process exits at once.
    """
    threading.Thread(target=_heed, args=(at_end,), daemon=True).start()


def _heed(at_end: Callable[[], None]) -> None:
    lines = standard_input()
    while line := lines.readline():
        if line == END:
            at_end()
    os._exit(1)
