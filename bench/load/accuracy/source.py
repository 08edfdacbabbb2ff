"""The source: `python -m bench.load.accuracy.source`. It prints its port, then serves loopback.

It streams what a prompt asks for (see `answers.Wish`). Each chunk carries the time at which
it was handed to the socket; `GET /told` tells those times of all requests since the last
time it was asked, after the time at which the request had arrived.
"""

from __future__ import annotations

import asyncio
import gc
from time import monotonic
from typing import cast

import httptools
import orjson

from bench.load.accuracy.answers import (
    CHAT,
    HEAD,
    NOT_FOUND,
    TOLD,
    Wish,
    chunk,
    read_wish,
    tail,
    whole,
)

_BACKLOG = 4096
_NO_REQUEST = (httptools.HttpParserError, httptools.HttpParserUpgrade)

Times = dict[str, list[float]]


class Stream:
    """One answer; its times go to `times` as they come about."""

    def __init__(self, transport: asyncio.Transport, wish: Wish, times: list[float]) -> None:
        self._transport = transport
        self._wish = wish
        self._times = times
        self._loop = asyncio.get_running_loop()
        self._due_s = times[0] + wish.first_ms / 1000
        self._sent = 0
        transport.write(HEAD)
        self._loop.call_at(self._due_s, self._step)

    def _step(self) -> None:
        if self._transport.is_closing():
            return
        wish = self._wish
        sent_s = monotonic() - wish.late_s(self._sent)
        # asyncio's own transport hands these bytes to the kernel before it returns; uvloop's
        # would only do so once everything else that is due has been done.
        self._transport.write(chunk(sent_s))
        self._times.append(sent_s)
        self._sent += 1
        if self._sent == wish.chunks:
            self._transport.write(tail(wish.chunks))
            return
        self._due_s += wish.every_ms / 1000
        self._loop.call_at(self._due_s, self._step)


class Incoming(asyncio.Protocol):
    """One connection; it takes one request at a time."""

    def __init__(self, told: Times) -> None:
        self._told = told
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body = b""
        self._now_s = 0.0

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._now_s = monotonic()
        try:
            self._parser.feed_data(data)
        except _NO_REQUEST:
            self._transport.abort()

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._path = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._path == CHAT.encode():
            self._answer()
        elif self._path == TOLD.encode():
            self._transport.write(whole(orjson.dumps(self._told)))
            self._told.clear()
        else:
            self._transport.write(NOT_FOUND)

    def _answer(self) -> None:
        try:
            wish = read_wish(self._body)
        except (ValueError, KeyError, TypeError, IndexError):
            self._transport.write(whole(b'{"error":"no wish"}', status=b"400 Bad Request"))
            return
        times = self._told[str(wish.index)] = [self._now_s]
        Stream(self._transport, wish, times)


async def serve() -> None:
    """Serve at a free port of loopback, printed first, until cancelled."""
    told: Times = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Incoming(told), "127.0.0.1", 0, backlog=_BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    gc.disable()  # a collection would make all streams late
    asyncio.run(serve())
