"""What every site offers, and a program that runs on one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


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
