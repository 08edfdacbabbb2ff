"""The HTTP client towards the replicas: kept-alive connections, answers as they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from lb.endpoint import Endpoint
from lb.upstream.connection import Connection
from lb.upstream.errors import BadAnswerError, ConnectFailedError, ConnectionLostError
from lb.upstream.response import Response

_CONNECT_TIMEOUT_S = 5.0
# Less than the 5 s after which vLLM (uvicorn) closes an idle connection, so that a
# request is seldom sent on one that is being closed at that moment.
_IDLE_LIMIT_S = 4.0


class Upstream:
    """Connections to all replicas. Belongs to the event loop that it is used on."""

    def __init__(self) -> None:
        self._idle: dict[Endpoint, list[Connection]] = {}

    async def send(self, endpoint: Endpoint, message: Sequence[bytes]) -> Response:
        """Send a request and wait until the body of its answer begins.

        Raises UpstreamError: ConnectFailed, ConnectionLost or BadAnswer. Cancelling it
        closes the connection.
        """
        kept = self._take(endpoint)
        if kept is not None:
            response = kept.exchange(message)
            try:
                return await response.begun()
            except ConnectionLostError:
                # Closed without a byte on a connection that was idle before: the
                # replica was closing it as we wrote. That is no failure of its own.
                if response.touched:
                    raise
        connection = await self._connect(endpoint)
        return await connection.exchange(message).begun()

    async def get(self, endpoint: Endpoint, path: str, limit_bytes: int) -> bytes:
        """The body of a GET. Raises UpstreamError, also for any status but 200."""
        head = f"GET {path} HTTP/1.1\r\nhost: {endpoint.authority}\r\n\r\n"
        response = await self.send(endpoint, [head.encode("ascii")])
        try:
            body = bytearray()
            while not response.finished:
                body += await response.read()
                if len(body) > limit_bytes:
                    raise BadAnswerError(f"sent more than {limit_bytes} bytes for {path}")
        finally:
            response.close()
        if response.status != 200:
            raise BadAnswerError(f"answered {path} with status {response.status}")
        return bytes(body)

    def close(self) -> None:
        """Close what is idle; what is in use is closed by its users."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def _take(self, endpoint: Endpoint) -> Connection | None:
        idle = self._idle.get(endpoint, [])
        oldest_s = time.monotonic() - _IDLE_LIMIT_S
        while idle:
            connection = idle.pop()
            if not connection.closing:
                if connection.idle_since_s > oldest_s:
                    return connection
                connection.abort()
        return None

    async def _connect(self, endpoint: Endpoint) -> Connection:
        def free(connection: Connection) -> None:
            connection.idle_since_s = time.monotonic()
            self._idle.setdefault(endpoint, []).append(connection)

        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: Connection(free), endpoint.host, endpoint.port
                )
        except TimeoutError:
            raise ConnectFailedError(f"did not accept within {_CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectFailedError(f"cannot be connected to ({reason})") from None
        return connection
