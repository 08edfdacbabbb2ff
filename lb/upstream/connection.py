"""One HTTP/1.1 connection to a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from lb.upstream.errors import ConnectionLostError
from lb.upstream.response import Response

# Unread bytes of an answer at which its replica is not read from any further.
_HIGH_WATER_BYTES = 64 * 1024


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; `on_free` is called when it can carry the next."""

    def __init__(self, on_free: Callable[[Connection], None]) -> None:
        self.idle_since_s = 0.0
        self._on_free = on_free
        self._transport: asyncio.Transport
        self._response: Response | None = None
        self._paused = False

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    def exchange(self, message: Sequence[bytes]) -> Response:
        """Send a whole request; the answer can be waited for at once."""
        self._response = response = Response(self.abort, self._resume)
        if self.closing:
            response.fail(ConnectionLostError("closed the connection before the request was sent"))
        else:
            self._transport.writelines(message)
        return response

    def abort(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.abort()  # nobody asked
            return
        response.feed(data)
        if response.failed:
            self.abort()
        elif response.complete:
            self._finish(response)
        elif response.unread_bytes > _HIGH_WATER_BYTES:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        if error is None:
            response.end_of_connection()
        else:
            response.fail(ConnectionLostError(f"broke the connection ({error})"))

    def _resume(self) -> None:
        if self._paused and not self.closing:
            self._transport.resume_reading()
        self._paused = False

    def _finish(self, response: Response) -> None:
        self._response = None
        if response.reusable and not self.closing:
            self._on_free(self)
        else:
            self._transport.close()
