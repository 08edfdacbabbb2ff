"""A client's connection: receives requests one after another, and sends their answers.

Everything happens in callbacks, as in `lb.http.upstream.connection`, for the same reason.
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
    expects_continue,
    origin_form,
    stated_length,
    without_upgrade,
)
from lb.http.endpoint import authority
from lb.http.http1 import CONTINUE, UNCOUNTED_BYTES, Header, head_grown, lines_size

# Counted for a client that left before its answer; never sent.
CLIENT_LEFT = 499

# Pipelined requests that may wait: beyond them nothing is read.
_MOST_WAITING = 16
# Values of SO_LINGER: whether closing is a reset.
_RESET, _NO_RESET = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class Handler(Protocol):
    """What answers a request: it writes to the connection and then calls `done`."""

    def start(self) -> None: ...

    def expire(self, now_s: float) -> None:
        """Give up if the deadline is over."""
        ...

    def on_client_lost(self) -> None:
        """The client has left."""
        ...

    def on_stop(self, error: ApiError) -> None:
        """Give up now, so that the client does not take the answer for complete."""
        ...

    def pause(self) -> None:
        """The client reads too slowly: write no more until `resume`."""
        ...

    def resume(self) -> None: ...


class ClientConnection(asyncio.Protocol):
    """Reads requests, and has a handler for each; answers only invalid requests itself.

    `unanswered` is called for a request that got no handler, with a status and the code of the
    error that was sent. `reject_early` gets the target and headers of a request whose body is
    still to come, and may return an error to send at once. At `deadline_s`, `expire` acts. With
    `close_after_answer`, answers say that the connection ends with them. With
    `over_descriptor_limit`, this process has few descriptors left: only what needs no more is
    served. With `ends_answer`, only the end of the connection ends the answer.
    """

    def __init__(
        self,
        handler_for: Callable[[ClientConnection, Incoming], Handler],
        unanswered: Callable[[ClientConnection, int, str | None], None],
        reject_early: Callable[[bytes, list[Header]], ApiError | None],
        connections: set[ClientConnection],
        limits: Limits,
        bodies: BodyMemory,
    ) -> None:
        self.deadline_s = math.inf
        self.close_after_answer = False
        self.ends_answer = False
        self.over_descriptor_limit = False
        self._stopping = False
        self._handler_for = handler_for
        self._unanswered = unanswered
        self._reject_early = reject_early
        self._connections = connections
        self._limits = limits
        self._bodies = bodies
        self.write: Callable[[bytes], None]
        self._transport: asyncio.Transport
        self._handler: Handler | None = None
        self._incoming: Incoming | None = None  # the request that is being answered
        self._busy = False
        self._waiting: deque[Incoming] = deque()
        self._full = False
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._http10 = False
        self._headers: list[Header] = []
        self._head_bytes = 0  # of an incomplete head: lower bound
        self._head_most = 0  # of the present head: upper bound
        self._trailer_bytes = self._framing_bytes = 0
        self._awaits_continue = False
        self._body: bytes | bytearray = b""
        self._body_seen = -1  # bytes of the body at the last piece
        self._body_since_s = math.inf  # when `_rejection_of_body` was called
        self._in_head = self._in_body = False
        self._refusal: ApiError | None = None
        self._closing = False

    # For the handler.

    @property
    def peer(self) -> str:
        """The client's address and port; "" if it has left."""
        address = self._transport.get_extra_info("peername")
        return authority(*address[:2]) if address else ""

    def done(self, *, keep_alive: bool) -> None:
        """The answer is complete: go on with the next request, or close."""
        self._handler = None
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
            if self._awaits_continue and self._in_body:
                self._send_continue()
            if self._refusal is not None:
                self._refuse(self._refusal)
            else:
                self.deadline_s = time.monotonic() + self._limits.idle_s
        if self._full and len(self._waiting) < _MOST_WAITING:
            self._full = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def release(self, incoming: Incoming) -> None:
        """Free the body, which is no longer needed."""
        if incoming.body:
            incoming.body = b""
            self._bodies.held_bytes -= incoming.body_bytes

    def end_answer(self) -> None:
        """The end of the connection ends the answer. Before `close` that is a reset.

        So it is even if the process is killed: no client takes half an answer for a whole one.
        """
        self.ends_answer = True
        self._set_linger(_RESET)

    def close(self) -> None:
        """Close when everything has been sent."""
        self._closing = True
        if self.ends_answer:
            self._set_linger(_NO_RESET)
        self._transport.close()

    def abort(self) -> None:
        """Break the connection, so that the client does not take the answer for complete."""
        self._handler = None  # it has ended: no more calls
        self._break()

    # For the server.

    def stop(self) -> None:
        """Close when there is no request left to answer."""
        self.close_after_answer = self._stopping = True
        if not (self._busy or self._in_head or self._in_body):
            self.close()

    def give_up(self, error: ApiError) -> None:
        """End the present answer with `error`."""
        self.close_after_answer = self._stopping = True
        if self._handler is not None:
            self._handler.on_stop(error)
        else:
            self._break()

    def expire(self, now_s: float) -> None:
        """Answer 408, or break the connection, if the deadline is over."""
        if self._handler is not None:
            self._handler.expire(now_s)
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
            self.over_descriptor_limit = self.close_after_answer = True
            self.deadline_s = time.monotonic() + self._limits.linger_s

    def data_received(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            return  # lingering
        self._head_most = self._head_most + len(data) if self._in_head else len(data)
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._ignore_upgrade(memoryview(data)[upgrade.args[0] :])
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
                    self._refusal = self._rejection_of_body()
                self.deadline_s = self._body_deadline_s()
        if self._refusal is not None and not self._busy:
            self._refuse(self._refusal)

    def eof_received(self) -> None:
        """A client that has closed its side has left."""
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
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.on_client_lost()

    def pause_writing(self) -> None:
        self.deadline_s = time.monotonic() + self._limits.stalled_s
        if self._handler is not None:
            self._handler.pause()

    def resume_writing(self) -> None:
        self.deadline_s = math.inf if self._busy else time.monotonic() + self._limits.idle_s
        if self._handler is not None:
            self._handler.resume()

    # For the parser.

    def on_message_begin(self) -> None:
        if self._refusal is not None:
            raise self._refusal  # stops the parser
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
        else:  # a trailer, which is not passed on
            self._trailer_bytes += lines_size([(name, value)])
            if self._trailer_bytes > self._limits.head_bytes:
                self._refusal = self._refusal or head_too_large(self._limits.head_bytes)

    def on_headers_complete(self) -> None:
        if self._head_most > self._limits.head_bytes and self._head_too_large():
            self._refusal = head_too_large(self._limits.head_bytes)
        elif self._parser.should_upgrade():
            return  # the parser stops: `_ignore_upgrade` follows
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
            self._awaits_continue = expects_continue(self._headers, version)
        except ApiError as error:
            self._refusal = error
            return
        if self._awaits_continue and not self._busy:
            self._send_continue()

    def on_body(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        bodies = self._bodies
        if not self._body:
            self._body = data  # most bodies come in one piece: no copy
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
            self._parser.should_keep_alive() and not self.close_after_answer,
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
        """A `piece` has come that does not complete the head."""
        if not (self._head_bytes or self._busy):
            self.deadline_s = time.monotonic() + self._limits.head_s
        self._head_bytes = head_grown(self._head_bytes, self._headers, piece)
        if self._head_bytes > self._limits.head_bytes + UNCOUNTED_BYTES:
            self._refusal = head_too_large(self._limits.head_bytes)

    def _head_too_large(self) -> bool:
        """Whether the complete head is over the limit."""
        line = len(self._parser.get_method()) + len(self._target) + len("  HTTP/1.1\r\n\r\n")
        return line + lines_size(self._headers) > self._limits.head_bytes

    def _bound_framing(self, piece_bytes: int) -> None:
        """A piece has come that does not complete the body: bound chunk framing and trailers.

        The parser keeps a trailer, and reports it when it is complete.
        """
        if len(self._body) != self._body_seen:
            self._body_seen = len(self._body)
            self._framing_bytes = 0
        else:
            self._framing_bytes += piece_bytes
            if self._framing_bytes > self._limits.head_bytes:
                self._refusal = self._refusal or head_too_large(self._limits.head_bytes)

    def _ignore_upgrade(self, rest: memoryview) -> None:
        """Parse the present request again without `Upgrade`, and then `rest`.

        The parser would end the request there, and lose its body. Raises HttpParserError, and
        ApiError if the request makes no sense without.
        """
        while self._refusal is None:
            method, version = self._parser.get_method(), self._parser.get_http_version()
            head = without_upgrade(method, self._target, self._headers, version)
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(head)
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            else:
                return

    def _send_continue(self) -> None:
        """Send `100 Continue`, or refuse the body that the client waits to send."""
        self._awaits_continue = False
        self._refusal = self._refusal or self._rejection_of_body()
        if self._refusal is None:
            self._transport.write(CONTINUE)

    def _set_linger(self, value: bytes) -> None:
        client = self._transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)

    def _rejection_of_body(self) -> ApiError | None:
        """Why the body that is still to come is refused; called once for each."""
        self._body_since_s = time.monotonic()
        stated_bytes = stated_length(self._headers)
        if stated_bytes > self._limits.body_bytes:
            return body_too_large(self._limits.body_bytes)
        bodies = self._bodies
        if bodies.held_bytes - len(self._body) + stated_bytes > bodies.limit_bytes:
            return bodies_too_large(bodies.limit_bytes)
        return self._reject_early(self._target, self._headers)

    def _drop_body(self) -> None:
        self._bodies.held_bytes -= len(self._body)
        self._body = b""

    def _body_deadline_s(self) -> float:
        """When the next part of the body has to have come."""
        limits = self._limits
        slowest_s = limits.body_s + len(self._body) / limits.body_bytes_per_s
        return min(time.monotonic() + limits.body_s, self._body_since_s + slowest_s)

    def _break(self) -> None:
        self._closing = True
        if self.ends_answer:
            self._set_linger(_RESET)  # `close` may have unset it
        self._transport.abort()

    def _start(self, incoming: Incoming) -> None:
        self._busy = True
        self._incoming = incoming
        self.deadline_s = math.inf
        self._handler = self._handler_for(self, incoming)
        self._handler.start()

    def _refuse(self, error: ApiError) -> None:
        """Answer with `error`; no more requests are read."""
        self._drop_body()
        self._unanswered(self, error.status, error.code)
        bodiless = self._target != b"" and self._parser.get_method() == b"HEAD"
        self._transport.write(error.at(self._target).answer(keep_alive=False, bodiless=bodiless))
        self._transport.write_eof()
        self.deadline_s = time.monotonic() + self._limits.linger_s
