"""The passage of one request to an upstream, and of the answer back to its client."""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod

from lb.apierror import ApiError
from lb.downstream import CLIENT_LEFT, ClientConnection, Incoming
from lb.endpoint import Endpoint
from lb.http1 import HOP_BY_HOP, LAST_CHUNK, Header, answer_head, chunk, request_head
from lb.request_id import REQUEST_ID_HEADER
from lb.upstream import Connection, ConnectionLostError, Upstream, UpstreamError

# Which replica answered.
REPLICA_HEADER = b"x-lb-replica"
# What a replica says of these does not get through.
_NOT_PASSED_ON = HOP_BY_HOP | {REPLICA_HEADER, REQUEST_ID_HEADER}

_WITHOUT_BODY = frozenset({204, 304})


class Passage(ABC):
    """Sends what a client asked to an endpoint and writes what comes back, as it comes.

    The head of the answer is held back until its body begins: vLLM sends it before the
    prompt is even scheduled, and until a byte has reached the client all can be tried
    again. `status` is 0 until then. At `deadline_s` there is something for `expire`.

    `sent_s` is when the request was first handed to a connection, `begun_s` when the
    answer's body began; 0 until then. `body_bytes` are what has come of it.
    """

    __slots__ = (
        "_answer_headers",
        "_chunked",
        "_client",
        "_connecting",
        "_connection",
        "_endpoint",
        "_headers",
        "_incoming",
        "_keep_alive",
        "_more",
        "_shown",
        "_upstream",
        "begun_s",
        "body_bytes",
        "deadline_s",
        "sent_s",
        "status",
    )

    def __init__(self, upstream: Upstream, client: ClientConnection, incoming: Incoming) -> None:
        self.status = 0
        self.body_bytes = 0
        self.sent_s = self.begun_s = 0.0
        self.deadline_s = math.inf
        self._upstream = upstream
        self._client = client
        self._incoming = incoming
        self._headers = incoming.headers
        self._shown: tuple[Header, ...] = ()
        self._keep_alive = incoming.keep_alive
        self._endpoint: Endpoint
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._answer_headers: list[Header] = []
        self._more: tuple[Header, ...] = ()
        self._chunked = False

    # For subclasses to say what is theirs.

    @abstractmethod
    def start(self) -> None:
        """Choose where to `send`, or `refuse`."""

    @abstractmethod
    def begun(self, status: int) -> bool:
        """The body of an answer begins. False: the request has been sent elsewhere."""

    @abstractmethod
    def passed(self) -> None:
        """A part of the answer has been passed on, and more is to come."""

    @abstractmethod
    def expire(self, now_s: float) -> None:
        """Give up what has not come by now, if its time is over."""

    @abstractmethod
    def failed(self, error: UpstreamError) -> None:
        """The upstream gave no whole answer: `send` again, or `cut`."""

    @abstractmethod
    def ended(self, status: int) -> None:
        """Nothing more happens. Called once, however it ended."""

    def send(self, endpoint: Endpoint) -> None:
        """Send the request there; what comes of it is told in callbacks."""
        self._endpoint = endpoint
        connection = self._upstream.take(endpoint)
        if connection is None:
            self._connect()
        else:
            self._send_on(connection)

    def refuse(self, error: ApiError) -> None:
        """Answer with an error of the balancer's own."""
        self.status = error.status
        self._client.write(error.answer(keep_alive=self._keep_alive, more=self._more))
        self.ended(error.status)
        self._client.done(keep_alive=self._keep_alive)

    def cut(self, error: ApiError) -> None:
        """End the answer so that nobody takes it for complete.

        An event stream gets an error event and no [DONE]. Anything else is left
        unfinished, and the connection is broken before the stated end.
        """
        if not self.status:
            self.refuse(error)
            return
        self.ended(self.status)
        if self._chunked and _is_event_stream(self._answer_headers):
            self._client.write(chunk(error.event()) + LAST_CHUNK)
            self._client.done(keep_alive=self._keep_alive)
        else:
            self._client.abort()

    # For the client's connection.

    def on_client_lost(self) -> None:
        self.drop_upstream()
        self.ended(CLIENT_LEFT)

    def on_stop(self, error: ApiError) -> None:
        self.drop_upstream()
        self.cut(error)

    def pause(self) -> None:
        self.deadline_s = math.inf  # it is the client that is waited for
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        self.passed()
        if self._connection is not None:
            self._connection.resume()

    # For the upstream's connection.

    def on_data(self, data: bytes, complete: bool) -> None:
        if not self.status:
            if not data and not complete:
                return  # the head alone says nothing
            connection = self._connection
            assert connection is not None
            if not self.begun(connection.status):
                return
            self._begin_answer(connection, data, complete)
        elif not self._chunked:
            self._client.write(data)
        elif complete:
            self._client.write(chunk(data) + LAST_CHUNK if data else LAST_CHUNK)
        else:
            self._client.write(chunk(data))
        self.body_bytes += len(data)
        if complete:
            self._connection = None
            self.ended(self.status)
            self._client.done(keep_alive=self._keep_alive)
        else:
            self.passed()

    def on_failure(self, error: UpstreamError) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        idled = not (connection.fresh or connection.touched)
        if idled and isinstance(error, ConnectionLostError):
            # Closed without a byte on a connection that was idle before: the replica was
            # closing it as we wrote. That is no failure of its own.
            self._connect()
        else:
            self.failed(error)

    def _begin_answer(self, connection: Connection, data: bytes, complete: bool) -> None:
        self.status = connection.status
        self.begun_s = time.monotonic()
        self._answer_headers = headers = connection.headers
        more = [*self._more]
        if self.status not in _WITHOUT_BODY and b"content-length" not in dict(headers):
            if complete:
                more.append((b"content-length", b"%d" % len(data)))
            elif self._incoming.http10:
                self._keep_alive = False  # the end of the connection is that of the body
            else:
                self._chunked = True
                more.append((b"transfer-encoding", b"chunked"))
        if not self._keep_alive:
            more.append((b"connection", b"close"))
        head = answer_head(self.status, headers, more, _NOT_PASSED_ON)
        self._client.write(head + (chunk(data) if self._chunked else data))

    def _connect(self) -> None:
        self._connecting = asyncio.ensure_future(self._send_on_new())

    async def _send_on_new(self) -> None:
        try:
            connection = await self._upstream.connect(self._endpoint)
        except UpstreamError as error:
            self._connecting = None
            self.failed(error)
        else:
            self._connecting = None
            self._send_on(connection)

    def _send_on(self, connection: Connection) -> None:
        self._connection = connection
        incoming, authority = self._incoming, self._endpoint.authority
        head = request_head(
            incoming.method,
            incoming.target,
            authority,
            self._headers,
            self._shown,
            len(incoming.body),
        )
        connection.send(head + incoming.body, self)
        self.sent_s = self.sent_s or time.monotonic()

    def drop_upstream(self) -> None:
        """Let go of the upstream, which ends its work on this request."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


def _is_event_stream(headers: list[Header]) -> bool:
    """Whether an event can be appended: events in plain text."""
    values = dict(headers)
    return (
        values.get(b"content-type", b"").startswith(b"text/event-stream")
        and b"content-encoding" not in values
    )
