"""The HTTP client towards the replicas: kept-alive connections, answers as they come."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from functools import partial

from lb.endpoint import Endpoint
from lb.upstream.connection import Connection
from lb.upstream.errors import (
    BadAnswerError,
    ConnectFailedError,
    ConnectionLostError,
    UpstreamError,
)

_CONNECT_TIMEOUT_S = 5.0
# Less than the 5 s after which vLLM (uvicorn) closes an idle connection, so that a
# request is seldom sent on one that is being closed at that moment.
_IDLE_LIMIT_S = 4.0


class Upstream:
    """Connections to all replicas. Belongs to the event loop that it is used on.

    `key` authorises what is asked with `get`.
    """

    def __init__(self, key: str | None = None) -> None:
        self._authorization = "" if key is None else f"authorization: Bearer {key}\r\n"
        self._idle: defaultdict[str, list[Connection]] = defaultdict(list)  # by authority

    def take(self, endpoint: Endpoint) -> Connection | None:
        """An idle connection, the one used last; None when there is none."""
        idle = self._idle[endpoint.authority]
        if not idle:
            return None
        oldest_s = time.monotonic() - _IDLE_LIMIT_S
        while idle:
            connection = idle.pop()
            if not connection.closing:
                if connection.idle_since_s > oldest_s:
                    return connection
                connection.abort()
        return None

    async def connect(self, endpoint: Endpoint) -> Connection:
        """A new connection. Raises ConnectFailedError."""
        loop = asyncio.get_running_loop()
        make = partial(Connection, partial(self._keep, endpoint.authority))
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                if endpoint.unix is not None:
                    _, connection = await loop.create_unix_connection(make, endpoint.unix)
                else:
                    _, connection = await loop.create_connection(make, endpoint.host, endpoint.port)
        except TimeoutError:
            raise ConnectFailedError(f"did not accept within {_CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectFailedError(f"cannot be connected to ({reason})") from None
        return connection

    async def get(self, endpoint: Endpoint, path: str, limit_bytes: int) -> bytes:
        """The body of a GET. Raises UpstreamError, also for any status but 200."""
        head = f"GET {path} HTTP/1.1\r\nhost: {endpoint.authority}\r\n"
        message = f"{head}{self._authorization}\r\n".encode("ascii")
        kept = self.take(endpoint)
        if kept is not None:
            try:
                return await _Fetch(kept, path, limit_bytes).body(message)
            except ConnectionLostError:
                # Closed without a byte on a connection that was idle before: the
                # replica was closing it as we wrote. That is no failure of its own.
                if kept.touched:
                    raise
        return await _Fetch(await self.connect(endpoint), path, limit_bytes).body(message)

    def forget(self, endpoint: Endpoint) -> None:
        """Close what is idle there: nobody is going to ask for it again."""
        self._forget(endpoint.authority)

    def close(self) -> None:
        """Close what is idle; what is in use is closed by its users."""
        for authority in tuple(self._idle):
            self._forget(authority)

    def _keep(self, authority: str, connection: Connection) -> None:
        connection.idle_since_s = time.monotonic()
        self._idle[authority].append(connection)

    def _forget(self, authority: str) -> None:
        for connection in self._idle.pop(authority, ()):
            connection.abort()


class _Fetch:
    """Collects one answer for somebody who waits.

    It lets go of the connection once the answer is complete. Whoever waits wakes up only
    later: by then the connection may carry somebody else's request.
    """

    def __init__(self, connection: Connection, path: str, limit_bytes: int) -> None:
        self._connection: Connection | None = connection
        self._path = path
        self._limit_bytes = limit_bytes
        self._body = bytearray()
        self._status = 0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def body(self, message: bytes) -> bytes:
        assert self._connection is not None
        self._connection.send(message, self)
        try:
            await self._done
        except asyncio.CancelledError:
            if self._connection is not None:
                self._connection.abort()
            raise
        if self._status != 200:
            raise BadAnswerError(f"answered {self._path} with status {self._status}", self._status)
        return bytes(self._body)

    def on_data(self, data: bytes, complete: bool) -> None:
        connection = self._connection
        assert connection is not None
        self._body += data
        self._status = connection.status
        if len(self._body) > self._limit_bytes:
            connection.abort()
            self.on_failure(
                BadAnswerError(f"sent more than {self._limit_bytes} bytes for {self._path}")
            )
        elif complete:
            self._connection = None
            if not self._done.done():
                self._done.set_result(None)

    def on_failure(self, error: UpstreamError) -> None:
        self._connection = None
        if not self._done.done():
            self._done.set_exception(error)
