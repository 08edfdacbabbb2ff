"""An HTTP/1.1 connection to a replica: sends a request, receives its answer, one after another.

Everything happens in callbacks of the transport and the parser: a task, a future or a queue for
each answer would cost more than all the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from lb.http.http1 import UNCOUNTED_BYTES, Header, head_grown, lines_size, unsupported_codings
from lb.http.upstream.errors import (
    BadAnswerError,
    ConnectionLostError,
    IdleClosedError,
    UpstreamError,
)

_MAX_HEAD_BYTES = 64 * 1024
_HEAD_TOO_LARGE = f"sent a head of more than {_MAX_HEAD_BYTES} bytes"
# A replica that closes an idle connection before the request arrives does so within a round trip.
# If it closes later, it may have worked on the request.
_IDLE_CLOSE_S = 0.25


class Receiver(Protocol):
    """What an answer is given to."""

    def on_data(self, data: bytes, complete: bool) -> None:
        """The next part of the body, without chunk framing; b"" only when it is `complete`."""
        ...

    def on_failure(self, error: UpstreamError) -> None:
        """The answer is incomplete. No more calls follow."""
        ...


class Connection(asyncio.Protocol):
    """A connection with one request at a time.

    `status` and `headers` (lower-case names) are the current answer's from its first `on_data`
    on, `sent_s` is when its request was sent. `on_free` is called when the next request can be
    sent.
    """

    def __init__(self, on_free: Callable[[Connection], None]) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.sent_s = 0.0
        self.idle_since_s = 0.0
        self._on_free = on_free
        self._transport: asyncio.Transport
        self._receiver: Receiver | None = None
        self._pieces: list[bytes] = []
        # Called by the parser, up to hundreds of times for one read: a method would be slower.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._used = False  # for a request before the present one
        self._head_complete = False
        self._head_bytes = 0  # of an incomplete head: lower bound
        self._head_most = 0  # of the present head: upper bound
        self._framing_bytes = 0  # since the last part of the body
        self._complete = False
        self._overrun = False
        self._fault = ""  # why the head cannot be used
        self._keep_alive = False

    @property
    def closing(self) -> bool:
        return self._transport.is_closing()

    @property
    def descriptor(self) -> int:
        """The descriptor's number; -1 once the connection is closed."""
        socket = self._transport.get_extra_info("socket")
        return -1 if socket is None else int(socket.fileno())

    @property
    def framed(self) -> bool:
        """Whether the answer states where its body ends."""
        headers = dict(self.headers)
        chunked = b"chunked" in headers.get(b"transfer-encoding", b"").lower()
        return chunked or b"content-length" in headers

    def send(self, message: bytes, receiver: Receiver, body: bytes = b"") -> None:
        """Send a request, whose `message` may include its body. `receiver` gets the answer."""
        self._receiver = receiver
        self.status = 0
        self.headers = []
        self._head_complete = self._complete = False
        self._fault = ""
        self._head_bytes = self._head_most = self._framing_bytes = 0
        self._transport.write(message)
        if body:
            self._transport.write(body)
        self.sent_s = time.monotonic()

    def abort(self) -> None:
        """Break the connection, so that the replica stops working. The receiver is not called."""
        self._receiver = None
        self._transport.abort()

    def pause(self) -> None:
        """Read no more of the answer until `resume`."""
        if not self.closing:
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self.closing:
            self._transport.resume_reading()

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            self._transport.abort()  # there was no request
            return
        in_body = self._head_complete
        if not in_body:
            self._head_most += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._fail(BadAnswerError(self._fault or f"did not answer in HTTP/1.1 ({error})"))
                return
            self._overrun = True
        if self._complete:
            self._finish(receiver)
        elif not (in_body or self._head_complete):
            self._wait_for_head(data)
        elif self._pieces:
            body = b"".join(self._pieces)
            self._pieces.clear()
            self._framing_bytes = 0
            receiver.on_data(body, False)
        else:  # framing alone, of which the parser keeps trailers
            self._framing_bytes += len(data)
            if self._framing_bytes > _MAX_HEAD_BYTES:
                self._fail(BadAnswerError(f"sent more than {_MAX_HEAD_BYTES} bytes of framing"))

    def eof_received(self) -> None:
        """The replica has closed its side: the end of a body that states no length."""
        if self._receiver is None or self._complete:
            return
        if self._head_complete and not self.framed:
            self._complete = self._overrun = True
            self._finish(self._receiver)
        else:
            self._fail(self._lost("closed the connection before the answer was complete"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._receiver is not None:
            reason = f" ({error})" if error else ""
            self._fail(self._lost(f"broke the connection{reason}"))

    def _finish(self, receiver: Receiver) -> None:
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._receiver = None
        self._used = True
        receiver.on_data(body, True)
        unsent = self._transport.get_write_buffer_size()
        if self._keep_alive and not (self._overrun or unsent or self._transport.is_closing()):
            self._on_free(self)
        else:
            self._transport.abort()

    def _wait_for_head(self, piece: bytes) -> None:
        """A `piece` has come, and the head is incomplete or unusable."""
        self._head_bytes = head_grown(self._head_bytes, self.headers, piece)
        if self._head_bytes > _MAX_HEAD_BYTES + UNCOUNTED_BYTES:
            self._fault = self._fault or _HEAD_TOO_LARGE
        if self._fault:
            self._fail(BadAnswerError(self._fault))

    def _lost(self, reason: str) -> ConnectionLostError:
        touched = self._head_most > 0
        if self._used and not touched and time.monotonic() < self.sent_s + _IDLE_CLOSE_S:
            return IdleClosedError("closed an idle connection as the request was sent")
        return ConnectionLostError(reason)

    def _fail(self, error: UpstreamError) -> None:
        self._transport.abort()
        if self._receiver is not None and self._head_complete and self._pieces:
            self._receiver.on_data(b"".join(self._pieces), False)
        # The receiver may have aborted this connection in on_data.
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.on_failure(error)

    # For the parser.

    def on_message_begin(self) -> None:
        if self._complete:
            raise BadAnswerError("sent more than one answer")  # stops the parser
        self._pieces.clear()  # an interim answer might have a body
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_complete:  # later ones are trailers, which are not passed on
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.headers.clear()  # an interim answer, the real one follows
        elif not (self._complete or self._fault):
            self.status = status
            self._fault = self._fault_of_head()
            self._head_complete = not self._fault
            # After 204 and 304 a wrong body would come before the next answer.
            self._keep_alive = self._parser.should_keep_alive() and status not in {204, 304}

    def on_message_complete(self) -> None:
        self._complete = self._head_complete

    def _fault_of_head(self) -> str:
        """Why the complete head cannot be used; "" if it can."""
        if self._head_most > _MAX_HEAD_BYTES and lines_size(self.headers) > _MAX_HEAD_BYTES:
            return _HEAD_TOO_LARGE
        if not 200 <= self.status <= 599:
            return f"sent an unusable head (status {self.status})"
        if coding := unsupported_codings(self.headers):
            return f"sent a body in the transfer coding {coding}, which is not supported"
        return ""
