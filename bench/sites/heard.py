"""What a program has said and nobody has taken yet."""

from __future__ import annotations

from collections.abc import Callable

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
