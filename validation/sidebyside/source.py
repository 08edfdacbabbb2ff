"""The source: `python -m validation.sidebyside.source PORT EVERY_MS HOST...`.

It plays engines that cost next to nothing, one at each host: an answer of 1 KB in one
write, or as many events as `max_tokens` asks for when the body says `"stream": true`,
EVERY_MS apart or, when the prompt asks for it, in one write. `/v1/completions` streams an
event a second for as long as the client listens. `/tally` tells what was streamed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any, cast

import httptools
import orjson
import uvloop

from validation.sidebyside import answers
from validation.sidebyside.tally import Tally
from validation.sidebyside.wheel import Wheel

_BACKLOG = 4096


class Stream:
    """One event stream of `count` chunks, or without end; the first chunk comes at once."""

    def __init__(
        self,
        transport: asyncio.Transport,
        wheel: Wheel,
        tally: Tally,
        every_ms: int,
        count: int | None,
        last: bytes = answers.LAST_CHUNK,
    ) -> None:
        self._transport = transport
        self._wheel = wheel
        self._tally = tally
        self._every_ms = every_ms
        self._left = count
        self._last = last
        self._begun_s = tally.begin()
        transport.write(answers.STREAM_HEAD)
        self._step()

    def _step(self) -> None:
        if self._transport.is_closing():
            self._tally.end(self._begun_s, complete=False)
            return
        self._tally.chunks += 1
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._transport.write(self._last)
                self._tally.end(self._begun_s, complete=True)
                return
        self._transport.write(answers.CHUNK)
        self._wheel.after(self._every_ms, self._step)


class Incoming(asyncio.Protocol):
    """One connection; it takes one request at a time, as proxies send them."""

    def __init__(self, wheel: Wheel, tally: Tally, every_ms: int) -> None:
        self._wheel = wheel
        self._tally = tally
        self._every_ms = every_ms
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
            self._answer_page()
        elif self._path == answers.SLOW:
            every_ms = answers.SLOW_CHUNK_EVERY_MS
            Stream(self._transport, self._wheel, self._tally, every_ms, None)
        elif self._path == answers.CHAT:
            self._answer_chat(orjson.loads(self._body))
        else:
            self._transport.write(answers.NOT_FOUND)

    def _answer_page(self) -> None:
        if self._path == answers.TALLY:
            self._transport.write(answers.whole(orjson.dumps(self._tally.take())))
        else:
            self._transport.write(answers.PAGES.get(self._path, answers.NOT_FOUND))

    def _answer_chat(self, asked: dict[str, Any]) -> None:
        # Parsed, not searched: some routers write the body anew.
        if not asked.get("stream"):
            self._transport.write(answers.ANSWER)
        elif asked["messages"][0]["content"] == answers.AT_ONCE:
            self._transport.write(answers.BURST)
        else:
            limit = asked.get("max_tokens") or asked.get("max_completion_tokens")
            count = int(limit or answers.CHUNKS)
            with_usage = (asked.get("stream_options") or {}).get("include_usage")
            last = answers.last_with_usage(count) if with_usage else answers.LAST_CHUNK
            Stream(self._transport, self._wheel, self._tally, self._every_ms, count, last)


async def serve(hosts: Sequence[str], port: int, every_ms: int) -> None:
    """Serve at `port` of every host, until cancelled."""
    loop = asyncio.get_running_loop()
    wheel, tally = Wheel(loop), Tally()
    server = await loop.create_server(
        lambda: Incoming(wheel, tally, every_ms), hosts, port, backlog=_BACKLOG
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[3:], int(sys.argv[1]), int(sys.argv[2])))
