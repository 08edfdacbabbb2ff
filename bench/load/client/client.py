"""Sends streamed completions to one base URL."""

from __future__ import annotations

import asyncio
import errno
import socket

from bench.load.client.api import Api, split_url
from bench.load.client.connection import Connection, Destination, connect
from bench.load.client.eventloop import DirectLoop, DirectSelector
from bench.load.client.exchange import Exchange, Failure
from bench.records import Connections, ErrorKind, PlannedRequest

# What this machine has run out of, which says nothing of the server: open files, ports.
_OWN_LIMITS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL}


class Client:
    """Sends requests to the server at `base_url`; opens as many connections as it needs.

    Kept connections are reused, the one used last first, so that few lie idle. With
    `connections` "per-request" each request has a connection of its own, with `Connection: close`.
    Raises UserError when `base_url` is not an HTTP URL, or TLS cannot be set up.
    """

    def __init__(
        self, base_url: str, connections: Connections = "kept", api: Api | None = None
    ) -> None:
        url = split_url(base_url)
        self._api = api or Api()
        self._tls = self._api.tls.context() if url.scheme == "https" else None
        self._destination = Destination(url.hostname or "", url.port or (443 if self._tls else 80))
        self._head = self._api.head(url)
        self._kept = connections == "kept"
        if not self._kept:
            self._head += "Connection: close\r\n"
        self._idle: list[Connection] = []

    def encode(self, planned: PlannedRequest, prompt: str) -> bytes:
        """The HTTP request for `planned`, made ahead so that sending it is one write."""
        body = self._api.body(planned, prompt)
        tenant = f"X-Tenant: {planned.tenant}\r\n" if planned.tenant else ""
        return f"{self._head}{tenant}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def fetch(self, request: bytes, exchange: Exchange) -> None:
        """Send `request` and fill `exchange` until it has ended; a failure is in `exchange`.

        A server may close an idle connection while the request is on its way. When
        a reused connection breaks before a byte of the answer, the request is sent
        once more on a new one; `sent_s` stays that of the first try, so that the
        repetition is part of the measured time.
        """
        if connection := self._take_idle():
            await self._send(connection, request, exchange)
            if connection.answered:
                return
            exchange.failure = None
        try:
            sock = await connect(self._destination, self._tls)
        except socket.gaierror as error:
            why = f"{self._destination.host} has no address: {error.strerror}"
            exchange.failure = Failure(ErrorKind.RESOLVE, why)
            return
        except OSError as error:
            kind = ErrorKind.CLIENT if error.errno in _OWN_LIMITS else ErrorKind.CONNECT
            exchange.failure = Failure(kind, str(error))
            return
        await self._send(Connection(sock, _selector()), request, exchange)

    async def close(self) -> None:
        """Close the idle connections; none is in use any more."""
        while self._idle:
            self._idle.pop().close()

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    async def _send(self, connection: Connection, request: bytes, exchange: Exchange) -> None:
        await connection.send(request, exchange)
        if not self._kept:
            connection.close()
        elif connection.reusable:
            self._idle.append(connection)


def _selector() -> DirectSelector:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, DirectLoop), "a client needs a DirectLoop"
    return loop.direct
