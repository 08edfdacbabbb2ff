"""One client's connection: requests in, one after the other, and their answers out.

Everything happens in callbacks, as in `lb.http.upstream.connection`, and for the same reason.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from lb.http.api_errors import (
    ApiError,
    bad_request,
    bodies_too_large,
    body_too_large,
    head_too_large,
    request_timeout,
)
from lb.http.descriptors import too_high_for_client
from lb.http.downstream.incoming import (
    BodyMemory,
    Incoming,
    Limits,
    awaits_leave,
    origin_form,
    stated_length,
    without_offers,
)
from lb.http.endpoint import authority
from lb.http.http1 import CONTINUE, UNCOUNTED_BYTES, Header, head_grown, lines_size

# The status that is counted for a client that left before its answer; never sent.
CLIENT_LEFT = 499

# Pipelined requests that wait for their turn before no more are read.
_MOST_WAITING = 16
# Values of SO_LINGER: closing is a reset, or it is not.
_RESET, _NO_RESET = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


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
    do. While `leaving`, answers say that the connection ends with them. One that is
    `crowded` has one of the process's last descriptors: only what needs no more is served.
    `ends_answer` is whether nothing but the end of the connection says where the answer ends.
    """

    def __init__(
        self,
        exchange_for: Callable[[ClientConnection, Incoming], Exchange],
        unanswered: Callable[[ClientConnection, int, str | None], None],
        unwelcome: Callable[[bytes, list[Header]], ApiError | None],
        connections: set[ClientConnection],
        limits: Limits,
        bodies: BodyMemory,
    ) -> None:
        self.deadline_s = math.inf
        self.leaving = False
        self.ends_answer = False
        self.crowded = False
        self._stopping = False
        self._exchange_for = exchange_for
        self._unanswered = unanswered
        self._unwelcome = unwelcome
        self._connections = connections
        self._limits = limits
        self._bodies = bodies
        self.write: Callable[[bytes], None]
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._incoming: Incoming | None = None  # that is being answered
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
        self._body: bytes | bytearray = b""
        self._body_seen = -1  # bytes of it when the last piece came
        self._body_since_s = math.inf  # when it was looked at, and let in
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
        if self._incoming is not None:
            self.release(self._incoming)
        if self._closing:
            return
        if not keep_alive or (self._stopping and not self._waiting):
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

    def release(self, incoming: Incoming) -> None:
        """The body is needed no more."""
        if incoming.body:
            incoming.body = b""
            self._bodies.held_bytes -= incoming.body_bytes

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
        self._exchange = None  # it has ended, and is not told
        self._break()

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
            self._break()

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
            self._break()

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        self._connections.add(self)
        self.deadline_s = time.monotonic() + self._limits.head_s
        if too_high_for_client(transport.get_extra_info("socket").fileno()):
            self.crowded = self.leaving = True
            self.deadline_s = time.monotonic() + self._limits.linger_s

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
                if self._refusal is None and self._body_since_s == math.inf:
                    self._refusal = self._objection_to_body()
                self.deadline_s = self._body_deadline_s()
        if self._refusal is not None and not self._busy:
            self._refuse(self._refusal)

    def eof_received(self) -> None:
        """A client that has closed its side has left: nobody waits for an answer."""
        if self._busy:
            self._break()

    def connection_lost(self, _error: Exception | None) -> None:
        self._closing = True
        self._connections.discard(self)
        self._drop_body()
        for incoming in (self._incoming, *self._waiting):
            if incoming is not None:
                self.release(incoming)
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
        self._body_since_s = math.inf
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
        if self._refusal is not None:
            return
        bodies = self._bodies
        if not self._body:
            self._body = data  # most bodies come in one piece, and are not copied
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body + data)
        bodies.held_bytes += len(data)
        if len(self._body) > self._limits.body_bytes:
            self._refusal = body_too_large(self._limits.body_bytes)
        elif bodies.held_bytes > bodies.limit_bytes:
            self._refusal = bodies_too_large(bodies.limit_bytes)

    def on_message_complete(self) -> None:
        self._in_body = False
        if self._refusal is not None or self._in_head:
            return
        body, self._body = bytes(self._body), b""
        incoming = Incoming(
            self._parser.get_method(),
            self._target,
            self._headers,
            body,
            self._parser.should_keep_alive() and not self.leaving,
            self._http10,
            time.monotonic(),
            len(body),
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
        if len(self._body) != self._body_seen:
            self._body_seen = len(self._body)
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
        self._refusal = self._refusal or self._objection_to_body()
        if self._refusal is None:
            self._transport.write(CONTINUE)

    def _set_linger(self, value: bytes) -> None:
        client = self._transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)

    def _objection_to_body(self) -> ApiError | None:
        """Why a body that is still to come need not; asked once of each."""
        self._body_since_s = time.monotonic()
        stated_bytes = stated_length(self._headers)
        if stated_bytes > self._limits.body_bytes:
            return body_too_large(self._limits.body_bytes)
        bodies = self._bodies
        if bodies.held_bytes - len(self._body) + stated_bytes > bodies.limit_bytes:
            return bodies_too_large(bodies.limit_bytes)
        return self._unwelcome(self._target, self._headers)

    def _drop_body(self) -> None:
        self._bodies.held_bytes -= len(self._body)
        self._body = b""

    def _body_deadline_s(self) -> float:
        """When the body has to have brought more."""
        limits = self._limits
        slowest_s = limits.body_s + len(self._body) / limits.body_bytes_per_s
        return min(time.monotonic() + limits.body_s, self._body_since_s + slowest_s)

    def _break(self) -> None:
        self._closing = True
        if self.ends_answer:
            self._set_linger(_RESET)  # it may be closing
        self._transport.abort()

    def _start(self, incoming: Incoming) -> None:
        self._busy = True
        self._incoming = incoming
        self.deadline_s = math.inf
        self._exchange = self._exchange_for(self, incoming)
        self._exchange.start()

    def _refuse(self, error: ApiError) -> None:
        """Answer with `error` and take no more requests."""
        self._drop_body()
        self._unanswered(self, error.status, error.code)
        bodiless = self._target != b"" and self._parser.get_method() == b"HEAD"
        self._transport.write(error.at(self._target).answer(keep_alive=False, bodiless=bodiless))
        self._transport.write_eof()
        self.deadline_s = time.monotonic() + self._limits.linger_s
