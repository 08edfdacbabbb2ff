"""The suite's own programs: where they run, and how one talks with them.

Both sides write lines of text, and blocks: a line with the length, then so many compressed
bytes. A program ends when its standard input says `end`, or is closed.
"""

from __future__ import annotations

import io
import os
import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Protocol

from bench.errors import UserError

END = b"end\n"
# A program that measures answers it with the time of its monotonic clock.
ASK_CLOCK = b"clock\n"
# From the end of its input to the time when a program is killed.
GRACE_S = 5.0
# The fastest level: blocks are mostly numbers and words, and shrink to a third.
_LEVEL = 1
_AT_ONCE = 1 << 20


class Program(ABC):
    """A running program. One thread may read while another one sends.

    A subclass receives its standard output (`_receive`); here that is cut into lines and blocks.
    """

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._unread = bytearray()

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Write to its standard input; does nothing if the program has ended."""

    @abstractmethod
    def ended(self) -> str | None:
        """How it ended, see `end_message`; None while it runs."""

    @abstractmethod
    def close(self) -> None:
        """End the program; returns when it has ended. Safe to repeat."""

    @abstractmethod
    def _receive(self, deadline_s: float) -> bytes:
        """What it has written since the last call; waits for that until `deadline_s`, then b"".

        `deadline_s` is a time of CLOCK_MONOTONIC. Raises UserError when there will be no more.
        """

    def line(self, timeout_s: float) -> bytes:
        """The next line of its standard output, without the line feed.

        Raises UserError when the program has ended, or writes nothing for `timeout_s` seconds.
        """
        with self._reading:
            deadline_s, searched = monotonic() + timeout_s, 0
            while (end := self._unread.find(b"\n", searched)) < 0:
                searched = len(self._unread)
                self._receive_more(deadline_s, timeout_s)
            return self._take(end + 1)[:-1]

    def read(self, size: int, timeout_s: float) -> bytes:
        """The next `size` bytes of its standard output. Raises UserError like `line`."""
        with self._reading:
            deadline_s = monotonic() + timeout_s
            while len(self._unread) < size:
                self._receive_more(deadline_s, timeout_s)
            return self._take(size)

    def _receive_more(self, deadline_s: float, timeout_s: float) -> None:
        received = self._receive(deadline_s)
        if not received:
            raise UserError(f"it said nothing for {timeout_s:g} s")
        self._unread += received

    def _take(self, size: int) -> bytes:
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken


class Site(Protocol):
    """Where programs run. `shards` is how many a load is split into; None: as many as wanted.

    With `one_clock` all of them, and this process, share CLOCK_MONOTONIC.
    """

    name: str
    shards: int | None
    one_clock: bool

    def start(self, module: str, arguments: Sequence[str], shard: int) -> Program:
        """Start `python -m module arguments` where shard `shard` of a load is sent from (from 0).

        Raises UserError if there is no such shard, or that cannot be reached.
        """
        ...

    def facts(self) -> Mapping[str, Any]:
        """Provenance: where programs run. JSON values."""
        ...


def end_message(code: int, errors: bytes) -> str:
    """How a program ended: its exit code (128 + n after signal n), and last line of errors."""
    said = last_line(errors)
    return f"it ended with {code}" + (f": {said}" if said else " and said nothing")


def output_of(code: int | None, output: bytes, errors: bytes) -> str:
    """The output of a command that has ended so. Raises UserError unless it succeeded."""
    if code != 0:
        lost = "the connection to it was lost"
        raise UserError(lost if code is None else end_message(code, errors or output))
    return output.decode(errors="replace")


def last_line(errors: bytes) -> str:
    """The last line that is not blank; empty if there is none."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def block(data: bytes) -> bytes:
    """`data` as a block."""
    packed = zlib.compress(data, _LEVEL)
    return b"%d\n%b" % (len(packed), packed)


def read_block(program: Program, timeout_s: float) -> bytes:
    """The data of the next block that `program` writes. Raises UserError when there is none."""
    size = program.line(timeout_s)
    if not size.isdigit():
        raise UserError(f"it said {size[:80]!r} where the length of its result was due")
    try:
        return zlib.decompress(program.read(int(size), timeout_s))
    except zlib.error as error:
        raise UserError(f"what it wrote is damaged: {error}") from None


# What follows is for the programs themselves.


def standard_input() -> io.FileIO:
    """Standard input, unbuffered: it takes nothing away from a later reader.

    The buffered one must not be read in a thread: Python aborts if it ends meanwhile.
    """
    return io.FileIO(0, closefd=False)


def take_block(stream: io.FileIO) -> bytes:
    """The data of the next block of the program's own input. Raises EOFError if that ends."""
    size = int(stream.readline() or -1)
    packed = bytearray()
    while len(packed) != size:
        part = stream.read(min(_AT_ONCE, max(0, size - len(packed))))
        if not part:
            raise EOFError
        packed += part
    return zlib.decompress(packed)


def watch_input(at_end: Callable[[], None]) -> None:
    """From now on call `at_end`, in another thread, when the input says `end`.

    When the input is closed, nobody is left to take a result: the process exits at once.
    """

    def watch() -> None:
        lines = standard_input()
        while line := lines.readline():
            if line == END:
                at_end()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
