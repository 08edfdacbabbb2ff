"""The HTTP client towards the replicas, with connections that are kept alive."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import time
from collections import defaultdict, deque
from contextlib import suppress
from functools import partial
from pathlib import Path

from lb.errors import UserError
from lb.http.descriptors import exhausted, limit, too_high_for_request
from lb.http.endpoint import Endpoint
from lb.http.upstream.connection import Connection
from lb.http.upstream.errors import (
    BadAnswerError,
    ConnectFailedError,
    IdleClosedError,
    OutOfDescriptorsError,
    UpstreamError,
)

_CONNECT_TIMEOUT_S = 5.0
# vLLM (uvicorn) closes idle connections after 5 s. Less, so that a request is seldom sent on one
# that is being closed at that moment.
_IDLE_LIMIT_S = 4.0

# The authority, and the name for TLS: a connection without TLS must not be used for one with it.
_Peer = tuple[str, str | None]


class Upstream:
    """Connections to all replicas, on one event loop.

    `key` is sent with `get`. `trusted` has the CAs, None for those of the system.
    """

    def __init__(self, key: str | None = None, trusted: ssl.SSLContext | None = None) -> None:
        self._authorization = "" if key is None else f"authorization: Bearer {key}\r\n"
        self._trusted = trusted
        self._idle: defaultdict[_Peer, deque[Connection]] = defaultdict(deque)

    def take(self, endpoint: Endpoint) -> Connection | None:
        """The idle connection that was used last; None if there is none."""
        idle = self._idle[endpoint.authority, endpoint.tls]
        oldest_s = time.monotonic() - _IDLE_LIMIT_S
        while idle:
            connection = idle.pop()
            if connection.idle_since_s > oldest_s and not connection.closing:
                return connection
            connection.abort()
        return None

    def expire(self) -> None:
        """Close connections that are idle for too long; to be called about every second."""
        oldest_s = time.monotonic() - _IDLE_LIMIT_S
        for idle in self._idle.values():
            while idle and idle[0].idle_since_s <= oldest_s:
                idle.popleft().abort()

    async def connect(self, endpoint: Endpoint) -> Connection:
        """A new connection. Raises ConnectFailedError or OutOfDescriptorsError.

        The last descriptors are not for requests: polls and probes have to be possible.
        """
        connection = await self._connect(endpoint)
        if endpoint.unix is None and too_high_for_request(connection.descriptor):
            connection.abort()
            raise _out_of_descriptors(os.strerror(errno.EMFILE))
        return connection

    async def _connect(self, endpoint: Endpoint) -> Connection:
        loop = asyncio.get_running_loop()
        make = partial(Connection, partial(self._keep, (endpoint.authority, endpoint.tls)))
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                if endpoint.unix is not None:
                    _, connection = await loop.create_unix_connection(make, endpoint.unix)
                else:
                    _, connection = await loop.create_connection(
                        make,
                        endpoint.host,
                        endpoint.port,
                        ssl=None if endpoint.tls is None else self._tls(),
                        server_hostname=endpoint.tls,
                    )
        except TimeoutError:
            raise ConnectFailedError(f"did not accept within {_CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            reason = _reason_of(error)
            if exhausted(error):
                raise _out_of_descriptors(reason) from None
            raise ConnectFailedError(f"cannot be connected to ({reason})") from None
        return connection

    async def get(self, endpoint: Endpoint, path: str, limit_bytes: int) -> bytes:
        """The body of an answer to GET. Raises UpstreamError, also for any status but 200."""
        first = f"GET {endpoint.prefix.decode('ascii')}{path} HTTP/1.1\r\n"
        head = f"{first}host: {endpoint.host_header}\r\naccept-encoding: identity\r\n"
        message = f"{head}{self._authorization}\r\n".encode("ascii")
        kept = self.take(endpoint)
        if kept is not None:
            with suppress(IdleClosedError):
                return await _Fetch(kept, path, limit_bytes).body(message)
        return await _Fetch(await self._connect(endpoint), path, limit_bytes).body(message)

    def forget(self, endpoint: Endpoint) -> None:
        """Close idle connections to an endpoint that is not used any more."""
        self._forget((endpoint.authority, endpoint.tls))

    def close(self) -> None:
        """Close idle connections; those in use are closed by their users."""
        for peer in tuple(self._idle):
            self._forget(peer)

    def _tls(self) -> ssl.SSLContext:
        """Made at first use: to read the system's CAs takes a while."""
        if self._trusted is None:
            self._trusted = client_context()
        return self._trusted

    def _keep(self, peer: _Peer, connection: Connection) -> None:
        connection.idle_since_s = time.monotonic()
        self._idle[peer].append(connection)

    def _forget(self, peer: _Peer) -> None:
        for connection in self._idle.pop(peer, ()):
            connection.abort()


def _out_of_descriptors(reason: str) -> OutOfDescriptorsError:
    return OutOfDescriptorsError(f"{reason}; its limit (ulimit -n) is {limit()}")


class _Fetch:
    """Collects one answer.

    It gives up the connection when the answer is complete: before the waiting task runs, the
    connection may carry another request.
    """

    def __init__(self, connection: Connection, path: str, limit_bytes: int) -> None:
        self._connection: Connection | None = connection
        self._path = path
        self._limit_bytes = limit_bytes
        self._body = bytearray()
        self._status = 0
        self._coding = b""
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
        if self._coding not in {b"", b"identity"}:
            coding = self._coding.decode("ascii", "replace")
            raise BadAnswerError(f"answered {self._path} encoded as {coding}, unasked")
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
            self._coding = dict(connection.headers).get(b"content-encoding", b"").lower()
            if not self._done.done():
                self._done.set_result(None)

    def on_failure(self, error: UpstreamError) -> None:
        self._connection = None
        if not self._done.done():
            self._done.set_exception(error)


def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """A TLS context with the CAs in a PEM file, or else those of the system. Raises UserError."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        is_tls = isinstance(error, ssl.SSLError)
        reason = "it holds no certificates in PEM" if is_tls else error.strerror
        raise UserError(f"{ca_file} cannot be used: {reason}") from None
    # An intermediate CA in the file is trusted as well: Python's default from 3.13 on.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    return context


def _reason_of(error: OSError) -> str:
    """Why there is no connection, to follow "cannot be connected to"."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or error}"
    return error.strerror or str(error)
