"""One client's connection: requests in, one after the other, and their answers out.

Everything happens in callbacks, as in `lb.upstream.connection`, and for the same reason.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
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
from lb.downstream.incoming import Incoming, awaits_leave, origin_form, without_offers
from lb.endpoint import authority
from lb.http1 import CONTINUE, UNCOUNTED_BYTES, Header, head_grown, lines_size

# The status that is counted for a client that left before its answer; never sent.
CLIENT_LEFT = 499

# Pipelined requests that wait for their turn before no more are read.
_MOST_WAITING = 16
# Values of SO_LINGER: closing is a reset, or it is not.
_RESET, _NO_RESET = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take.

    `head_bytes` bounds a head, and the trailers of a body. A head has to be complete
    `head_s` after its first byte, a body to bring something every `body_s`. A connection
    without a request is closed after `idle_s`, one whose client takes nothing of an answer
    after `stalled_s`.
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
    do. While `leaving`, answers say that the connection ends with them. `ends_answer` is
    whether nothing but the end of the connection says where the answer ends.
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
        self.ends_answer = False
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
        self._head_bytes = 0  # of a head that is not complete, at least
        self._head_most = 0  # of the head under way, at most
        self._trailer_bytes = self._framing_bytes = 0
        self._held_back = False  # a body, until its client gets leave to send it
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_seen = -1  # of them when the last piece came
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
        else:
            if self._held_back and self._in_body:
                self._give_leave()
            if self._refusal is not None:
                self._refuse(self._refusal)
            else:
                self.deadline_s = time.monotonic() + self._limits.idle_s
        if self._full and len(self._waiting) < _MOST_WAITING:
            self._full = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def end_answer(self) -> None:
        """The answer ends with the connection, which is reset if it ends before `close`.

        So it is even when the process is killed: nobody takes half an answer for whole.
        """
        self.ends_answer = True
        self._set_linger(_RESET)

    def close(self) -> None:
        """Close after what has been written."""
        self._closing = True
        if self.ends_answer:
            self._set_linger(_NO_RESET)
        self._transport.close()

    def abort(self) -> None:
        """Break the connection, so that the client does not take the answer for whole."""
        self._closing = True
        if self.ends_answer:
            self._set_linger(_RESET)  # it may be closing
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
        self._head_most = self._head_most + len(data) if self._in_head else len(data)
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                self._pass_over(memoryview(data)[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._refusal = self._refusal or bad_request(f"The request is not HTTP/1.1: {error}")
        except ApiError as error:
            self._refusal = error
        if self._in_head:
            self._wait_for_head(data)
        elif self._in_body:
            self._bound_framing(len(data))
            if not self._busy:
                self.deadline_s = time.monotonic() + self._limits.body_s
                self._refusal = self._refusal or self._unwelcome(self._target, self._headers)
        if self._refusal is not None and not self._busy:
            self._refuse(self._refusal)

    def eof_received(self) -> None:
        """A client that has closed its side has left: nobody waits for an answer."""
        if self._busy:
            self.abort()

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
        if self._refusal is not None:
            raise self._refusal  # stops the parser: what is refused stays the last one
        self._in_head = True
        self._target = b""
        self._headers = []
        self._trailer_bytes = self._framing_bytes = 0
        self._body_seen = -1
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name.lower(), value))
        else:  # a trailer, which ends at this hop
            self._trailer_bytes += lines_size([(name, value)])
            if self._trailer_bytes > self._limits.head_bytes:
                self._refusal = self._refusal or head_too_large(self._limits.head_bytes)

    def on_headers_complete(self) -> None:
        if self._head_most > self._limits.head_bytes and self._head_too_large():
            self._refusal = head_too_large(self._limits.head_bytes)
        elif self._parser.should_upgrade():
            return  # the parser stops here, and gets the head again without the offer
        self._in_head, self._in_body = False, True
        self._head_bytes = 0
        version = self._parser.get_http_version()
        self._http10 = version == "1.0"
        if self._refusal is not None:
            return
        try:
            if not self._target.startswith(b"/"):
                self._target = origin_form(self._target)
            self._held_back = awaits_leave(self._headers, version)
        except ApiError as error:
            self._refusal = error
            return
        if self._held_back and not self._busy:
            self._give_leave()

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes <= self._limits.body_bytes:
            self._body.append(data)
        elif self._refusal is None:
            self._refusal = body_too_large(self._limits.body_bytes)

    def on_message_complete(self) -> None:
        self._in_body = False
        if self._refusal is not None or self._in_head:
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

    def _wait_for_head(self, piece: bytes) -> None:
        """A piece has come that does not complete the head."""
        if not (self._head_bytes or self._busy):
            self.deadline_s = time.monotonic() + self._limits.head_s
        self._head_bytes = head_grown(self._head_bytes, self._headers, piece)
        if self._head_bytes > self._limits.head_bytes + UNCOUNTED_BYTES:
            self._refusal = head_too_large(self._limits.head_bytes)

    def _head_too_large(self) -> bool:
        """Whether the head that is complete now is over the limit, however it came."""
        line = len(self._parser.get_method()) + len(self._target) + len("  HTTP/1.1\r\n\r\n")
        return line + lines_size(self._headers) > self._limits.head_bytes

    def _bound_framing(self, piece_bytes: int) -> None:
        """A piece has come that does not complete the body, and may bring nothing of it.

        The parser tells of a trailer when it has all of it, and keeps it until then.
        """
        if self._body_bytes != self._body_seen:
            self._body_seen = self._body_bytes
            self._framing_bytes = 0
        else:
            self._framing_bytes += piece_bytes
            if self._framing_bytes > self._limits.head_bytes:
                self._refusal = self._refusal or head_too_large(self._limits.head_bytes)

    def _pass_over(self, rest: memoryview) -> None:
        """Read the request under way without its offer of another protocol, and then `rest`.

        For the parser the request ends with the offer: its body would be lost.
        Raises HttpParserError, and ApiError where nothing is left without the offer.
        """
        while self._refusal is None:
            method, version = self._parser.get_method(), self._parser.get_http_version()
            head = without_offers(method, self._target, self._headers, version)
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(head)
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
            else:
                return

    def _give_leave(self) -> None:
        """Let the body come that the client holds back, or say why it need not."""
        self._held_back = False
        self._refusal = self._refusal or self._unwelcome(self._target, self._headers)
        if self._refusal is None:
            self._transport.write(CONTINUE)

    def _set_linger(self, value: bytes) -> None:
        client = self._transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)

    def _start(self, incoming: Incoming) -> None:
        self._busy = True
        self.deadline_s = math.inf
        self._exchange = self._exchange_for(self, incoming)
        self._exchange.start()

    def _refuse(self, error: ApiError) -> None:
        """Answer with `error` and take no more requests."""
        self._unanswered(self, error.status, error.code)
        bodiless = self._target != b"" and self._parser.get_method() == b"HEAD"
        self._transport.write(error.at(self._target).answer(keep_alive=False, bodiless=bodiless))
        self._transport.write_eof()
        self.deadline_s = time.monotonic() + self._limits.linger_s
