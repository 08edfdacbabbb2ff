"""Relays a request to an upstream, and the answer back to its client."""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from http import HTTPStatus

from lb.http.api_errors import ApiError
from lb.http.downstream import CLIENT_LEFT, ClientConnection, Incoming
from lb.http.endpoint import Endpoint
from lb.http.http1 import (
    CLOSE,
    HOP_BY_HOP,
    KEEP_ALIVE,
    LAST_CHUNK,
    REQUEST_ID_HEADER,
    Header,
    answer_head,
    chunk,
    request_head,
)
from lb.http.upstream.client import Upstream
from lb.http.upstream.connection import Connection
from lb.http.upstream.errors import TooSlowError, UpstreamError

# Names the replica that answered.
REPLICA_HEADER = b"x-lb-replica"
# Of a replica's answer, these are not passed on.
_NOT_PASSED_ON = HOP_BY_HOP | {REPLICA_HEADER, REQUEST_ID_HEADER}

# Longer bodies are written by themselves, and not copied behind the head.
_COPIED_BYTES = 64 * 1024
_WITHOUT_BODY = frozenset({204, 304})
_LENGTH = b"content-length"


class Relay(ABC):
    """Sends a client's request to an endpoint, and writes the answer as it comes.

    A subclass says where and how often: `start` calls `send` or `refuse`. When the body of an
    answer begins, `on_answer` accepts it or calls `send` again. When the upstream fails,
    `on_upstream_error` calls `send` or `cut`. `on_end` is called once, at the end.

    The head of an answer is held back until its body begins: vLLM sends it before the prompt is
    scheduled, and the request can be sent elsewhere until a byte has reached the client. `status`
    is 0 until then. `expire` acts at `deadline_s`; during an answer that is `stall_s` after each
    part.

    `sends` is how often the request was given to a connection, `sent_s` when it first was,
    `begun_s` when the answer's body began (both 0 before), `body_bytes` what has come of it.

    HEAD is sent as GET, since the parser reads only answers with a body, and not every server
    knows HEAD. The body is not passed on.
    """

    __slots__ = (
        "_answer_headers",
        "_bodiless",
        "_chunked",
        "_client",
        "_connecting",
        "_connection",
        "_headers",
        "_incoming",
        "_keep_alive",
        "_key_headers",
        "_more",
        "_stall_s",
        "_upstream",
        "begun_s",
        "body_bytes",
        "deadline_s",
        "sends",
        "sent_s",
        "status",
    )

    def __init__(
        self, upstream: Upstream, client: ClientConnection, incoming: Incoming, stall_s: float
    ) -> None:
        self.status = 0
        self.body_bytes = 0
        self.sends = 0
        self.sent_s = self.begun_s = 0.0
        self.deadline_s = math.inf
        self._upstream = upstream
        self._client = client
        self._incoming = incoming
        self._stall_s = stall_s
        self._headers = incoming.headers
        self._key_headers: tuple[Header, ...] = ()
        self._keep_alive = incoming.keep_alive
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._answer_headers: list[Header] = []
        self._more: tuple[Header, ...] = ()
        self._chunked = False
        self._bodiless = incoming.method == b"HEAD"

    @abstractmethod
    def start(self) -> None:
        """Choose where to `send`, or `refuse`."""

    def on_answer(self, _status: int, _beginning: bytes) -> bool:
        """The body of an answer begins. Returns False if the request was sent elsewhere."""
        return True

    @abstractmethod
    def on_upstream_error(self, error: UpstreamError) -> None:
        """The upstream gave no complete answer: `send` again, or `cut`."""

    @abstractmethod
    def on_end(self, status: int) -> None:
        """The request has ended, in whatever way."""

    # The request is sent.

    def send(self, endpoint: Endpoint) -> None:
        """Send the request to `endpoint`.

        The second time it is sent on a new connection: a kept one might just be closed by the
        other side, and there is no third time.
        """
        connection = None if self.sends else self._upstream.take(endpoint)
        if connection is None:
            self._connecting = asyncio.ensure_future(self._connect_and_send(endpoint))
        else:
            self._send_on(connection, endpoint)

    async def _connect_and_send(self, endpoint: Endpoint) -> None:
        try:
            connection = await self._upstream.connect(endpoint)
        except UpstreamError as error:
            self._connecting = None
            self.on_upstream_error(error)
        else:
            self._connecting = None
            self._send_on(connection, endpoint)

    def _send_on(self, connection: Connection, endpoint: Endpoint) -> None:
        self._connection = connection
        incoming = self._incoming
        head = request_head(
            b"GET" if self._bodiless else incoming.method,
            endpoint.prefix + incoming.target,
            endpoint.host_header,
            self._headers,
            self._key_headers,
            len(incoming.body),
        )
        if len(incoming.body) <= _COPIED_BYTES:
            connection.send(head + incoming.body, self)
        else:
            connection.send(head, self, incoming.body)
        self.sends += 1
        self.sent_s = self.sent_s or connection.sent_s

    def drop_upstream(self) -> None:
        """Abort the request at the upstream, which then stops working on it."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    # The answer is written: the upstream's connection calls these.

    def on_data(self, data: bytes, complete: bool) -> None:
        if not self.status:
            connection = self._connection
            assert connection is not None
            if not self.on_answer(connection.status, data):
                return
            self._begin_answer(connection, data, complete)
            if self._bodiless:
                if not complete:
                    self.drop_upstream()
                data, complete = b"", True
        elif not self._chunked:
            self._client.write(data)
        elif complete:
            self._client.write(chunk(data) + LAST_CHUNK if data else LAST_CHUNK)
        else:
            self._client.write(chunk(data))
        self.body_bytes += len(data)
        if complete:
            self._connection = None
            self.on_end(self.status)
            self._client.done(keep_alive=self._keep_alive)
        else:
            self.deadline_s = time.monotonic() + self._stall_s

    def on_failure(self, error: UpstreamError) -> None:
        self._connection = None
        self.on_upstream_error(error)

    def _begin_answer(self, connection: Connection, data: bytes, complete: bool) -> None:
        self.status = connection.status
        self.begun_s = time.monotonic()
        self._answer_headers = headers = connection.headers
        more, dropped = [*self._more], _NOT_PASSED_ON
        if self.status in _WITHOUT_BODY:
            if self.status == HTTPStatus.NO_CONTENT:
                dropped |= {_LENGTH}  # some clients would wait for a body
        elif _LENGTH not in dict(headers):
            if complete:
                more.append((_LENGTH, b"%d" % len(data)))
            elif self._bodiless:
                pass  # the length is not known
            elif self._incoming.http10:
                self._keep_alive = False
                self._client.end_answer()
            else:
                self._chunked = True
                more.append((b"transfer-encoding", b"chunked"))
        if not self._keep_alive:
            more.append(CLOSE)
        elif self._incoming.http10:
            more.append(KEEP_ALIVE)
        head = answer_head(self.status, headers, more, dropped)
        if self._bodiless:
            data = b""
        self._client.write(head + (chunk(data) if self._chunked else data))
        self._client.release(self._incoming)  # nothing is sent again from here on

    # The balancer answers with an error.

    def refuse(self, error: ApiError) -> None:
        """Answer with an error of the balancer."""
        self.status = error.status
        kept = self._keep_alive and self._incoming.http10
        more = (*self._more, KEEP_ALIVE) if kept else self._more
        self._client.write(
            error.answer(keep_alive=self._keep_alive, more=more, bodiless=self._bodiless)
        )
        self.on_end(error.status)
        self._client.done(keep_alive=self._keep_alive)

    def cut(self, error: ApiError) -> None:
        """End the answer so that the client does not take it for complete.

        An event stream gets an error event and no [DONE]. With other answers the connection is
        broken before the stated end, or reset where its own end would be the answer's.
        """
        if not self.status:
            self.refuse(error)
            return
        self.on_end(self.status)
        appendable = self._chunked or self._client.ends_answer
        if appendable and is_event_stream(self._answer_headers):
            event = error.event()
            self._client.write(chunk(event) + LAST_CHUNK if self._chunked else event)
            self._client.done(keep_alive=self._keep_alive)
        else:
            self._client.abort()

    # The client's connection calls these.

    def expire(self, now_s: float) -> None:
        """Give up if the deadline is over."""
        if now_s >= self.deadline_s:
            waited = "stopped in the middle of its answer" if self.status else "did not answer"
            self.drop_upstream()
            self.on_upstream_error(TooSlowError(f"{waited} within the time allowed"))

    def on_client_lost(self) -> None:
        self.drop_upstream()
        self.on_end(CLIENT_LEFT)

    def on_stop(self, error: ApiError) -> None:
        self.drop_upstream()
        self.cut(error)

    def pause(self) -> None:
        self.deadline_s = math.inf  # the client is slow, not the upstream
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        self.deadline_s = time.monotonic() + self._stall_s
        if self._connection is not None:
            self._connection.resume()


def is_event_stream(headers: list[Header]) -> bool:
    """Whether the answer is an event stream in plain text."""
    values = dict(headers)
    return values.get(b"content-type", b"").lower().startswith(b"text/event-stream") and (
        values.get(b"content-encoding", b"identity").lower() == b"identity"
    )
