"""Reads the requests that come on a client's connection, and says what cannot be taken of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

import httptools

from lb.http.api_errors import (
    ApiError,
    bad_request,
    bodies_too_large,
    body_too_large,
    head_too_large,
)
from lb.http.downstream.incoming import (
    BodyMemory,
    Incoming,
    Limits,
    expects_continue,
    origin_form,
    stated_length,
    without_upgrade,
)
from lb.http.http1 import UNCOUNTED_BYTES, Header, head_grown, lines_size


class RequestReceiver(Protocol):
    """What is told of requests as they come."""

    def on_request(self, incoming: Incoming) -> None:
        """A request has come as a whole."""
        ...

    def on_continue_awaited(self) -> None:
        """The client waits for a `100 Continue` before it sends the body."""
        ...


class RequestReader:
    """Tells `receiver` of the requests that it finds in what it is fed with.

    `refusal` is the error for a request that cannot be taken; nothing is read after that. A head or
    a body of which a part has come is `in_head` or `in_body`. With `awaits_continue`, the client
    got no `100 Continue` yet.

    `reject_early` gets the target and headers of a request whose body is still to come, and may
    return an error.
    """

    def __init__(
        self,
        receiver: RequestReceiver,
        reject_early: Callable[[bytes, list[Header]], ApiError | None],
        limits: Limits,
        bodies: BodyMemory,
    ) -> None:
        self.refusal: ApiError | None = None
        self.in_head = self.in_body = False
        self.awaits_continue = False
        self.target = b""
        self._receiver = receiver
        self._reject_early = reject_early
        self._limits = limits
        self._bodies = bodies
        self._parser = httptools.HttpRequestParser(self)
        self._http10 = False
        self._headers: list[Header] = []
        self._head_bytes = 0  # of an incomplete head: lower bound
        self._head_most = 0  # of the present head: upper bound
        self._trailer_bytes = self._framing_bytes = 0
        self._body: bytes | bytearray = b""
        self._body_seen = -1  # bytes of the body at the last piece
        self._body_since_s = math.inf  # when `admit_body` was called

    @property
    def bodiless(self) -> bool:
        """Whether the request that came last asks for an answer without a body."""
        return self.target != b"" and bool(self._parser.get_method() == b"HEAD")

    def feed(self, data: bytes) -> bool:
        """Read what has come. Returns whether it has begun a head that is incomplete."""
        self._head_most = self._head_most + len(data) if self.in_head else len(data)
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._ignore_upgrade(memoryview(data)[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self.refusal = self.refusal or bad_request(f"The request is not HTTP/1.1: {error}")
        except ApiError as error:
            self.refusal = error
        if self.in_head:
            begun = not self._head_bytes
            self._bound_head(data)
            return begun
        if self.in_body:
            self._bound_framing(len(data))
        return False

    def admit_body(self) -> None:
        """Refuse the body that is still to come, if it cannot be taken; asked once for each."""
        if self.refusal is None and self._body_since_s == math.inf:
            self._body_since_s = time.monotonic()
            self.refusal = self._rejection_of_body()

    def body_deadline_s(self) -> float:
        """When the next part of the body has to have come, after `admit_body`."""
        limits = self._limits
        slowest_s = limits.body_s + len(self._body) / limits.body_bytes_per_s
        return min(time.monotonic() + limits.body_s, self._body_since_s + slowest_s)

    def drop_body(self) -> None:
        """Free the part of a body that has come."""
        self._bodies.held_bytes -= len(self._body)
        self._body = b""

    # For the parser.

    def on_message_begin(self) -> None:
        if self.refusal is not None:
            raise self.refusal  # stops the parser
        self.in_head = True
        self.target = b""
        self._headers = []
        self._trailer_bytes = self._framing_bytes = 0
        self._body_seen = -1

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self._headers.append((name.lower(), value))
        else:  # a trailer, which is not passed on
            self._trailer_bytes += lines_size([(name, value)])
            if self._trailer_bytes > self._limits.head_bytes:
                self.refusal = self.refusal or head_too_large(self._limits.head_bytes)

    def on_headers_complete(self) -> None:
        if self._head_most > self._limits.head_bytes and self._head_too_large():
            self.refusal = head_too_large(self._limits.head_bytes)
        elif self._parser.should_upgrade():
            return  # the parser stops: `_ignore_upgrade` follows
        self.in_head, self.in_body = False, True
        self._head_bytes = 0
        version = self._parser.get_http_version()
        self._http10 = version == "1.0"
        self._body_since_s = math.inf
        if self.refusal is not None:
            return
        try:
            if not self.target.startswith(b"/"):
                self.target = origin_form(self.target)
            self.awaits_continue = expects_continue(self._headers, version)
        except ApiError as error:
            self.refusal = error
            return
        if self.awaits_continue:
            self._receiver.on_continue_awaited()

    def on_body(self, data: bytes) -> None:
        if self.refusal is not None:
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
            self.refusal = body_too_large(self._limits.body_bytes)
        elif bodies.held_bytes > bodies.limit_bytes:
            self.refusal = bodies_too_large(bodies.limit_bytes)

    def on_message_complete(self) -> None:
        self.in_body = False
        if self.refusal is not None or self.in_head:
            return
        body, self._body = bytes(self._body), b""
        self._receiver.on_request(
            Incoming(
                self._parser.get_method(),
                self.target,
                self._headers,
                body,
                self._parser.should_keep_alive(),
                self._http10,
                time.monotonic(),
                len(body),
            )
        )

    def _bound_head(self, piece: bytes) -> None:
        """A `piece` has come that does not complete the head."""
        self._head_bytes = head_grown(self._head_bytes, self._headers, piece)
        if self._head_bytes > self._limits.head_bytes + UNCOUNTED_BYTES:
            self.refusal = head_too_large(self._limits.head_bytes)

    def _head_too_large(self) -> bool:
        """Whether the complete head is over the limit."""
        line = len(self._parser.get_method()) + len(self.target) + len("  HTTP/1.1\r\n\r\n")
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
                self.refusal = self.refusal or head_too_large(self._limits.head_bytes)

    def _rejection_of_body(self) -> ApiError | None:
        stated_bytes = stated_length(self._headers)
        if stated_bytes > self._limits.body_bytes:
            return body_too_large(self._limits.body_bytes)
        bodies = self._bodies
        if bodies.held_bytes - len(self._body) + stated_bytes > bodies.limit_bytes:
            return bodies_too_large(bodies.limit_bytes)
        return self._reject_early(self.target, self._headers)

    def _ignore_upgrade(self, rest: memoryview) -> None:
        """Parse the present request again without `Upgrade`, and then `rest`.

        The parser would end the request there, and lose its body. Raises HttpParserError, and
        ApiError if the request makes no sense without.
        """
        while self.refusal is None:
            method, version = self._parser.get_method(), self._parser.get_http_version()
            head = without_upgrade(method, self.target, self._headers, version)
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(head)
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            else:
                return
