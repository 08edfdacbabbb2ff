"""One client's connection: requests in, one after the other, and their answers out.

Everything happens in callbacks, as in `lb.upstream.connection`, and for the same reason.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from lb.apierror import (
    ApiError,
    bad_request,
    body_too_large,
    head_too_large,
    request_timeout,
)
from lb.downstream.incoming import Incoming, objection
from lb.endpoint import authority
from lb.http1 import CONTINUE, Header

# The status that is counted for a client that left before its answer; never sent.
CLIENT_LEFT = 499

# Pipelined requests that wait for their turn before no more are read.
_MOST_WAITING = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take.

    A head has to be complete `head_s` after its first byte, a body to bring something
    every `body_s`. A connection without a request is closed after `idle_s`, one whose
    client takes nothing of an answer after `stalled_s`.
    """

    head_bytes: int = 32 * 1024
    body_bytes: int = 64 * 1024 * 1024
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 75.0
    stalled_s: float = 60.0
    # After a refusal, what the client still sends is read, so that it sees the answer.
    linger_s: float = 2.0


class Exchange(Protocol):
    """What answers a request: it writes to the connection and then calls `done`."""

    def start(self) -> None: ...

    def expire(self, now_s: float) -> None:
        """Give up what has not come by now, if its time is over."""
        ...

    def on_client_lost(self) -> None:
        """The client has left. Nothing that is written reaches it."""
        ...

    def on_stop(self, error: ApiError) -> None:
        """Give up now, in such a way that nobody takes the answer for complete."""
        ...

    def pause(self) -> None:
        """The client takes less than it is sent: send nothing for now."""
        ...

    def resume(self) -> None: ...


class ClientConnection(asyncio.Protocol):
    """Reads requests and gets each an exchange; answers itself only what is no request.

    `unanswered` is called with what never became an exchange: its status, and the code of
    the error that it was answered with. `unwelcome` tells by a target and headers whose
    body is still to come why it need not. `deadline_s` is when `expire` has something to
    do. While `leaving`, answers say that the connection ends with them.
    """

    def __init__(
        self,
        exchange_for: Callable[[ClientConnection, Incoming], Exchange],
        unanswered: Callable[[ClientConnection, int, str | None], None],
        unwelcome: Callable[[bytes, list[Header]], ApiError | None],
        connections: set[ClientConnection],
        limits: Limits,
    ) -> None:
        self.deadline_s = math.inf
        self.leaving = False
        self._stopping = False
        self._exchange_for = exchange_for
        self._unanswered = unanswered
        self._unwelcome = unwelcome
        self._connections = connections
        self._limits = limits
        self.write: Callable[[bytes], None]
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._busy = False
        self._waiting: deque[Incoming] = deque()
        self._full = False
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._http10 = False
        self._headers: list[Header] = []
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._in_head = self._in_body = False
        self._refusal: ApiError | None = None
        self._closing = False

    # For the exchange.

    @property
    def peer(self) -> str:
        """The client's address and port; empty when it left before anybody asked."""
        address = self._transport.get_extra_info("peername")
        return authority(*address[:2]) if address else ""

    def done(self, *, keep_alive: bool) -> None:
        """The answer is complete: go on with the next request, or close."""
        self._exchange = None
        self._busy = False
        if self._closing:
            return
        if not keep_alive or self._stopping:
            self.close()
        elif self._waiting:
            self._start(self._waiting.popleft())
        elif self._refusal is not None:
            self._refuse(self._refusal)
        else:
            self.deadline_s = time.monotonic() + self._limits.idle_s
        if self._full and len(self._waiting) < _MOST_WAITING:
            self._full = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def close(self) -> None:
        """Close after what has been written."""
        self._closing = True
        self._transport.close()

    def abort(self) -> None:
        """Break the connection, so that the client does not take the answer for whole."""
        self._closing = True
        self._transport.abort()

    # For the server.

    def stop(self) -> None:
        """Close when there is nothing left to answer."""
        self.leaving = self._stopping = True
        if not (self._busy or self._in_head or self._in_body):
            self.close()

    def give_up(self, error: ApiError) -> None:
        """End what is still being answered with `error`."""
        self.leaving = self._stopping = True
        if self._exchange is not None:
            self._exchange.on_stop(error)
        else:
            self.abort()

    def expire(self, now_s: float) -> None:
        """Close if what was waited for has not come by now."""
        if self._exchange is not None:
            self._exchange.expire(now_s)
        if now_s < self.deadline_s:
            return
        awaited = (self._in_head or self._in_body) and not self._busy
        if awaited and self._refusal is None:
            self._refusal = request_timeout()
            self._refuse(self._refusal)
        else:
            self.abort()

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        self._connections.add(self)
        self.deadline_s = time.monotonic() + self._limits.head_s

    def data_received(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            return  # lingering
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refusal = self._refusal or bad_request("Upgrade is not supported")
        except httptools.HttpParserError as error:
            self._refusal = self._refusal or bad_request(f"The request is not HTTP/1.1: {error}")
        if self._in_head:
            if not (self._head_bytes or self._busy):
                self.deadline_s = time.monotonic() + self._limits.head_s
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                self._refusal = head_too_large(self._limits.head_bytes)
        elif self._in_body and not self._busy:
            self.deadline_s = time.monotonic() + self._limits.body_s
            self._refusal = self._refusal or self._unwelcome(self._target, self._headers)
        if self._refusal is not None and not self._busy:
            self._refuse(self._refusal)

    def eof_received(self) -> None:
        """A client that has closed its side has left: nobody waits for an answer."""
        if self._busy:
            self._transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self._closing = True
        self._connections.discard(self)
        self._waiting.clear()
        if self._in_body and self._refusal is None:
            self._unanswered(self, CLIENT_LEFT, None)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.on_client_lost()

    def pause_writing(self) -> None:
        self.deadline_s = time.monotonic() + self._limits.stalled_s
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self.deadline_s = math.inf if self._busy else time.monotonic() + self._limits.idle_s
        if self._exchange is not None:
            self._exchange.resume()

    # For the parser.

    def on_message_begin(self) -> None:
        self._in_head = True
        self._target = b""
        self._headers = []
        self._head_bytes = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers end at this hop
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        version = self._parser.get_http_version()
        self._http10 = version == "1.0"
        if self._refusal is None:
            self._refusal = objection(self._target, self._headers, version)
        waits = (b"expect", b"100-continue") in self._headers
        if waits and self._refusal is None and not self._busy:
            self._refusal = self._unwelcome(self._target, self._headers)
            if self._refusal is None:
                self._transport.write(CONTINUE)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes <= self._limits.body_bytes:
            self._body.append(data)
        elif self._refusal is None:
            self._refusal = body_too_large(self._limits.body_bytes)

    def on_message_complete(self) -> None:
        self._in_body = False
        if self._refusal is not None:
            return
        incoming = Incoming(
            self._parser.get_method(),
            self._target,
            self._headers,
            b"".join(self._body),
            self._parser.should_keep_alive() and not self.leaving,
            self._http10,
            time.monotonic(),
        )
        if not self._busy:
            self._start(incoming)
            return
        self._waiting.append(incoming)
        if len(self._waiting) >= _MOST_WAITING:
            self._full = True
            self._transport.pause_reading()

    def _start(self, incoming: Incoming) -> None:
        self._busy = True
        self.deadline_s = math.inf
        self._exchange = self._exchange_for(self, incoming)
        self._exchange.start()

    def _refuse(self, error: ApiError) -> None:
        """Answer with `error` and take no more requests."""
        self._unanswered(self, error.status, error.code)
        self._transport.write(error.answer(keep_alive=False))
        self._transport.write_eof()
        self.deadline_s = time.monotonic() + self._limits.linger_s
