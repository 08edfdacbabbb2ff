"""Leases: the engines live as long as somebody is connected, or has said `keep`."""

from __future__ import annotations

import selectors
import socket

KEEP = b"keep"


class Leases:
    """Listens on a unix socket; every connection is a lease.

    A lease ends when its connection does, however its holder ended. When the last one
    is gone the engines are to stop, unless it had sent KEEP; then the next lease takes
    over.
    """

    def __init__(self, address: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        self._held: set[socket.socket] = set()
        self._kept = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def await_first(self, timeout_s: float) -> bool:
        """Whether somebody holds a lease, after waiting for one at most `timeout_s`."""
        if self._selector.select(timeout_s):
            self._accept()
        self._handle_events(timeout_s=0.0)
        return bool(self._held)

    def run_until_over(self) -> None:
        """Return when the last lease has ended without KEEP."""
        while self._held or self._kept:
            self._handle_events(timeout_s=None)

    def close(self) -> None:
        for connection in self._held:
            connection.close()
        self._selector.close()
        self._listener.close()

    def _handle_events(self, timeout_s: float | None) -> None:
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.fileobj, socket.socket):
                self._receive(key.fileobj)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self._selector.register(connection, selectors.EVENT_READ)
        self._held.add(connection)
        self._kept = False

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(64)
        except ConnectionError:
            data = b""
        if data == KEEP:
            self._kept = True
        elif not data:
            self._selector.unregister(connection)
            self._held.discard(connection)
            connection.close()
