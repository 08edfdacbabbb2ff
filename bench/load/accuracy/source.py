"""The synthetic source: `python -m bench.load.accuracy.source LOOP EVERY_MS HOST...`.

It stands in for engines that cost next to nothing, one at each host, all at one free port,
which it prints when it listens. Its answer to `/v1/chat/completions` depends on the request:

- a prompt that holds a `StreamPlan`: a stream by that plan, each chunk with its own time;
- `"stream": true`: as many events as `max_tokens` says, EVERY_MS apart, or all in one write;
- anything else: 1 KB of JSON in one write.

`/v1/completions` streams an event a second for as long as the client listens. `/report` returns
what was streamed since the last report (see `running.Report`).

LOOP is `asyncio`, which gives each chunk to the kernel at its own time, or `uvloop`, which
costs less but keeps a chunk until all other due work is done.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, cast

import httptools
import orjson
import uvloop

from bench.load.accuracy import answers

_BACKLOG = 4096
WHEEL_SIZE = 1024
_TICK_S = 0.001


class Wheel:
    """A timing wheel: one timer for any number of streams, on a grid of 1 ms.

    A timer or a task per stream would cost the source more than a proxy costs. A wheel that
    is late catches up, so that a stream keeps its rate.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: list[list[Callable[[], None]]] = [[] for _ in range(WHEEL_SIZE)]
        self._now = 0
        self._waiting = 0
        self._next_s = 0.0

    def after(self, delay_ms: int, call: Callable[[], None]) -> None:
        """Call `call` in `delay_ms`, at least 1 and less than `WHEEL_SIZE`."""
        if not self._waiting:
            self._next_s = self._loop.time() + _TICK_S
            self._loop.call_later(_TICK_S, self._turn)
        self._waiting += 1
        self._due[(self._now + delay_ms) % WHEEL_SIZE].append(call)

    def _turn(self) -> None:
        now_s = self._loop.time()
        while self._next_s <= now_s and self._waiting:
            self._now = (self._now + 1) % WHEEL_SIZE
            self._next_s += _TICK_S
            calls, self._due[self._now] = self._due[self._now], []
            for call in calls:
                call()
            self._waiting -= len(calls)
        if self._waiting:
            # Not what is left until `_next_s`: uvloop rounds that to 0, and spins.
            self._loop.call_later(_TICK_S, self._turn)


@dataclass(slots=True)
class Source:
    """The state that all connections share.

    `times` holds, by the index of a planned stream, when its request arrived and when each of
    its chunks was sent.
    """

    wheel: Wheel
    every_ms: int
    counts: answers.StreamCounts = field(default_factory=answers.StreamCounts)
    times: dict[str, list[float]] = field(default_factory=dict)

    def report(self) -> bytes:
        """What was streamed since the last report, as JSON."""
        made = orjson.dumps({"counts": self.counts.take(), "times": self.times})
        self.times.clear()
        return made


class PacedStream:
    """A stream of `count` equal chunks `every_ms` apart, or without end; the first one at once."""

    def __init__(
        self,
        transport: asyncio.Transport,
        source: Source,
        every_ms: int,
        count: int | None,
        last: bytes = b"",
    ) -> None:
        self._transport = transport
        self._source = source
        self._every_ms = every_ms
        self._left = count
        self._last = last
        self._begun_s = source.counts.begin()
        transport.write(answers.STREAM_HEAD)
        self._step()

    def _step(self) -> None:
        counts = self._source.counts
        if self._transport.is_closing():
            counts.end(self._begun_s, complete=False)
            return
        counts.chunks += 1
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._transport.write(self._last)
                counts.end(self._begun_s, complete=True)
                return
        self._transport.write(answers.CHUNK)
        self._source.wheel.after(self._every_ms, self._step)


class TimedStream:
    """A stream by a plan; each time at which a chunk was sent is added to `times`."""

    def __init__(
        self,
        transport: asyncio.Transport,
        source: Source,
        plan: answers.StreamPlan,
        times: list[float],
    ) -> None:
        self._transport = transport
        self._counts = source.counts
        self._plan = plan
        self._times = times
        self._loop = asyncio.get_running_loop()
        self._due_s = times[0] + plan.first_ms / 1000
        self._sent = 0
        self._begun_s = self._counts.begin()
        transport.write(answers.TIMED_HEAD)
        self._loop.call_at(self._due_s, self._step)

    def _step(self) -> None:
        if self._transport.is_closing():
            self._counts.end(self._begun_s, complete=False)
            return
        plan = self._plan
        sent_s = monotonic() - plan.late_s(self._sent)
        self._transport.write(answers.timed_chunk(sent_s))
        self._times.append(sent_s)
        self._counts.chunks += 1
        self._sent += 1
        if self._sent == plan.chunks:
            self._transport.write(answers.timed_tail(plan.chunks))
            self._counts.end(self._begun_s, complete=True)
            return
        self._due_s += plan.every_ms / 1000
        self._loop.call_at(self._due_s, self._step)


class Connection(asyncio.Protocol):
    """One connection; it takes one request at a time, as proxies send them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._path = ""
        self._body = b""
        self._arrived_s = 0.0

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._arrived_s = monotonic()
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
        if self._path == answers.CHAT:
            self._answer_chat()
        elif self._path == answers.ENDLESS:
            PacedStream(self._transport, self._source, answers.ENDLESS_CHUNK_EVERY_MS, None)
        elif self._path == answers.REPORT:
            self._transport.write(answers.whole(self._source.report()))
        else:
            self._transport.write(answers.PAGES.get(self._path, answers.NOT_FOUND))

    def _answer_chat(self) -> None:
        try:
            # Parsed, not searched: some routers write the body anew.
            asked = orjson.loads(self._body)
            prompt = asked["messages"][0]["content"]
            plan = answers.read_plan(prompt)
        except (ValueError, KeyError, TypeError, IndexError):
            self._transport.write(answers.BAD_REQUEST)
            return
        if plan is not None:
            times = self._source.times[str(plan.index)] = [self._arrived_s]
            TimedStream(self._transport, self._source, plan, times)
        elif not asked.get("stream"):
            self._transport.write(answers.ANSWER)
        elif prompt == answers.AT_ONCE:
            self._transport.write(answers.BURST)
        else:
            self._stream(asked)

    def _stream(self, asked: dict[str, Any]) -> None:
        count = int(asked.get("max_tokens") or asked.get("max_completion_tokens") or answers.CHUNKS)
        with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        last = answers.last_chunk(count, with_usage=with_usage)
        PacedStream(self._transport, self._source, self._source.every_ms, count, last)


async def serve(hosts: Sequence[str], every_ms: int) -> None:
    """Serve at one free port of every host, printed first, until cancelled."""
    loop = asyncio.get_running_loop()
    source = Source(Wheel(loop), every_ms)
    port = 0
    async with AsyncExitStack() as servers:
        for host in hosts:
            server = await loop.create_server(
                lambda: Connection(source), host, port, backlog=_BACKLOG
            )
            await servers.enter_async_context(server)
            port = server.sockets[0].getsockname()[1]
        print(port, flush=True)
        await loop.create_future()


def main(loop: str, every_ms: str, *hosts: str) -> None:
    """Run until killed."""
    if loop == "uvloop":
        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    else:
        factory = asyncio.new_event_loop
        gc.disable()  # a collection would make all streams late
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(hosts, int(every_ms)))


if __name__ == "__main__":
    main(*sys.argv[1:])
