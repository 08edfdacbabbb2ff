"""One HTTP/1.1 connection that stamps every piece of an answer as it arrives."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import cast

import httptools

from bench.load.exchange import Exchange, Failure
from bench.records import ErrorKind

_PARSE_ERRORS = (httptools.HttpParserError, httptools.HttpParserUpgrade)


class Connection(asyncio.Protocol):
    """Carries one exchange at a time.

    `reusable` says whether the next one may follow, `answered` whether the last one
    got at least a byte. One parse call per read costs 0.4 µs, so it is done at once:
    the end of an answer is then always known exactly.
    """

    def __init__(self) -> None:
        self.reusable = False
        self.answered = False
        self._open = False
        self._until_close = False
        self._now_s = 0.0
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._exchange = Exchange()
        # Done while no exchange is under way.
        self._ended = asyncio.get_running_loop().create_future()
        self._ended.set_result(None)

    async def carry(self, request: bytes, exchange: Exchange) -> None:
        """Send `request` and fill `exchange` until it has ended.

        `sent_s` is set only if it was None. When cancelled, what came so far is
        kept and the connection is closed.
        """
        self.answered = self._until_close = self.reusable = False
        if not self._open:
            exchange.failure = Failure(ErrorKind.DISCONNECT, "closed before the request was sent")
            return
        self._exchange = exchange
        self._ended = asyncio.get_running_loop().create_future()
        if exchange.sent_s is None:
            exchange.sent_s = monotonic()
        self._transport.write(request)
        try:
            await self._ended
        finally:
            if not self.reusable:
                self.close()

    def close(self) -> None:
        """Close at once, whatever is under way."""
        self._open = self.reusable = False
        self._transport.abort()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open = True

    def data_received(self, data: bytes) -> None:
        self._now_s = monotonic()
        self.answered = True
        if self._ended.done():
            # Nothing was asked: most likely a notice that the idle time is over.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except _PARSE_ERRORS as error:
            self._end(Failure(ErrorKind.PROTOCOL, f"not HTTP: {error}"))
            self.reusable = False

    def eof_received(self) -> None:
        self._open = self.reusable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = self.reusable = False
        if exc is None and self._until_close:
            self._end(None)
        else:
            when = "in the middle of" if self.answered else "before"
            why = f"connection lost {when} the answer: {exc or 'closed by the server'}"
            self._end(Failure(ErrorKind.DISCONNECT, why))

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self._ended.done():
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._exchange.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        headers = self._exchange.headers
        self._exchange.status = self._parser.get_status_code()
        self._until_close = "content-length" not in headers and "transfer-encoding" not in headers

    def on_body(self, data: bytes) -> None:
        self._exchange.body.append((self._now_s, data))

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return  # an interim answer, the real one follows
        self.reusable = self._parser.should_keep_alive()
        self._end(None)

    def _end(self, failure: Failure | None) -> None:
        """End the exchange unless it has ended."""
        if not self._ended.done():
            self._exchange.failure = failure
            self._exchange.complete = failure is None
            self._ended.set_result(None)
