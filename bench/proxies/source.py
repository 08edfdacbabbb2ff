"""The source behind the proxies: `python -m bench.proxies.source PORT HOST...`.

It plays engines that cost next to nothing, one at each host: an answer of 1 KB in one
write, or 32 events when the body says `"stream": true`, 5 ms apart or, when the prompt
asks for it, in one write. `/v1/completions` streams an event a second for as long as the
client listens.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import cast

import httptools
import orjson
import uvloop

from bench.proxies import answers
from bench.proxies.wheel import Wheel

_BACKLOG = 4096


class Stream:
    """One event stream of `count` chunks, or without end; the first chunk comes at once."""

    def __init__(
        self, transport: asyncio.Transport, wheel: Wheel, every_ms: int, count: int | None
    ) -> None:
        self._transport = transport
        self._wheel = wheel
        self._every_ms = every_ms
        self._left = count
        transport.write(answers.STREAM_HEAD)
        self._step()

    def _step(self) -> None:
        if self._transport.is_closing():
            return
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._transport.write(answers.LAST_CHUNK)
                return
        self._transport.write(answers.CHUNK)
        self._wheel.after(self._every_ms, self._step)


class Incoming(asyncio.Protocol):
    """One connection; it takes one request at a time, as proxies send them."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._path = ""
        self._body = b""

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._path, self._body = "", b""

    def on_url(self, url: bytes) -> None:
        self._path += url.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._parser.get_method() != b"POST":
            self._transport.write(answers.PAGES.get(self._path, answers.NOT_FOUND))
        elif self._path == answers.SLOW:
            Stream(self._transport, self._wheel, answers.SLOW_CHUNK_EVERY_MS, None)
        elif self._path == answers.CHAT:
            self._answer_chat()
        else:
            self._transport.write(answers.NOT_FOUND)

    def _answer_chat(self) -> None:
        # Parsed, not searched: some routers write the body anew.
        asked = orjson.loads(self._body)
        if not asked["stream"]:
            self._transport.write(answers.ANSWER)
        elif asked["messages"][0]["content"] == answers.AT_ONCE:
            self._transport.write(answers.BURST)
        else:
            Stream(self._transport, self._wheel, answers.CHUNK_EVERY_MS, answers.CHUNKS)


async def serve(hosts: Sequence[str], port: int) -> None:
    """Serve at `port` of every host, until cancelled."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    server = await loop.create_server(lambda: Incoming(wheel), hosts, port, backlog=_BACKLOG)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[2:], int(sys.argv[1])))
