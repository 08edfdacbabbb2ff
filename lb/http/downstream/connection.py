"""A client's connection: has requests answered one after another, in the order in which they came.

Everything happens in callbacks, as in `lb.http.upstream.connection`, for the same reason.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol, cast

from lb.http.api_errors import ApiError, request_timeout
from lb.http.descriptors import too_high_for_client
from lb.http.downstream.incoming import BodyMemory, Incoming, Limits
from lb.http.downstream.reader import RequestReader
from lb.http.endpoint import authority
from lb.http.http1 import CONTINUE, Header

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
    """Has a handler for each request; answers only those itself that `RequestReader` refuses.

    `unanswered` is called for a request that got no handler, with a status and the code of the
    error that was sent; `reject_early` is for `RequestReader`. At `deadline_s`, `expire` acts.
    With `close_after_answer`, answers say that the connection ends with them. With
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
        self._connections = connections
        self._limits = limits
        self._bodies = bodies
        self.write: Callable[[bytes], None]
        self._transport: asyncio.Transport
        self._handler: Handler | None = None
        self._incoming: Incoming | None = None  # the request that is being answered
        self._busy = False
        self._waiting: list[Incoming] = []
        self._full = False
        self._reader = RequestReader(self, reject_early, limits, bodies)
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
            self._start(self._waiting.pop(0))
        else:
            reader = self._reader
            if reader.awaits_continue and reader.in_body:
                self._send_continue()
            if not self._refused():
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
        if not (self._busy or self._reader.in_head or self._reader.in_body):
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
        reader = self._reader
        awaited = (reader.in_head or reader.in_body) and not self._busy
        if awaited and reader.refusal is None:
            reader.refusal = request_timeout()
            self._refused()
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
        reader = self._reader
        if self._closing or reader.refusal is not None:
            return  # lingering
        head_begun = reader.feed(data)
        if self._busy:
            return
        if head_begun:
            self.deadline_s = time.monotonic() + self._limits.head_s
        elif reader.in_body:
            reader.admit_body()
            self.deadline_s = reader.body_deadline_s()
        self._refused()

    def eof_received(self) -> None:
        """A client that has closed its side has left."""
        if self._busy:
            self._break()

    def connection_lost(self, _error: Exception | None) -> None:
        self._closing = True
        self._connections.discard(self)
        self._reader.drop_body()
        for incoming in (self._incoming, *self._waiting):
            if incoming is not None:
                self.release(incoming)
        self._waiting.clear()
        if self._reader.in_body and self._reader.refusal is None:
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

    # For the reader.

    def on_request(self, incoming: Incoming) -> None:
        if self.close_after_answer:
            incoming.keep_alive = False
        if not self._busy:
            self._start(incoming)
            return
        self._waiting.append(incoming)
        if len(self._waiting) >= _MOST_WAITING:
            self._full = True
            self._transport.pause_reading()

    def on_continue_awaited(self) -> None:
        if not self._busy:
            self._send_continue()

    def _send_continue(self) -> None:
        """Send `100 Continue`, or refuse the body that the client waits to send."""
        reader = self._reader
        reader.awaits_continue = False
        reader.admit_body()
        if reader.refusal is None:
            self._transport.write(CONTINUE)

    def _set_linger(self, value: bytes) -> None:
        client = self._transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)

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

    def _refused(self) -> bool:
        """Answer what the reader refuses, if it does: no more requests are read."""
        reader = self._reader
        error = reader.refusal
        if error is None:
            return False
        reader.drop_body()
        self._unanswered(self, error.status, error.code)
        answer = error.at(reader.target).answer(keep_alive=False, bodiless=reader.bodiless)
        self._transport.write(answer)
        self._transport.write_eof()
        self.deadline_s = time.monotonic() + self._limits.linger_s
        return True
