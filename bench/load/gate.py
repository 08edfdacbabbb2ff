"""One start for several processes of a machine: all are ready first, then an instant is set.

The instant is one of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path
from time import monotonic

_INSTANT = struct.Struct("d")
# Enough for every process to be told and to wake up.
_AHEAD_S = 0.05
_LOOK_EVERY_S = 0.2


class Gate:
    """A unix socket at `path` that processes come to when they are ready to start."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(_LOOK_EVERY_S)
        self._ready: list[socket.socket] = []

    def wait_for(self, count: int, look: Callable[[], None]) -> None:
        """Wait until `count` processes are ready; `look` is called meanwhile, and may raise."""
        while len(self._ready) < count:
            look()
            try:
                self._ready.append(self._listener.accept()[0])
            except TimeoutError:
                continue

    def open(self) -> None:
        """Tell all that are ready when to start: in a moment."""
        start_s = monotonic() + _AHEAD_S
        for process in self._ready:
            process.sendall(_INSTANT.pack(start_s))

    def close(self) -> None:
        for one in (self._listener, *self._ready):
            one.close()


def pass_gate(path: Path) -> float:
    """Say that this process is ready; returns the instant at which to start.

    Raises ConnectionError when whoever holds the gate has gone.
    """
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(str(path))
        told = gate.recv(_INSTANT.size, socket.MSG_WAITALL)
    if len(told) < _INSTANT.size:
        raise ConnectionError(f"the gate {path} was closed before the start")
    instant: float = _INSTANT.unpack(told)[0]
    return instant
