"""A socket server with a script, to calibrate the client against and to misbehave.

It is no engine: nothing it says ever becomes a result.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from socket import SO_LINGER, SOL_SOCKET
from time import monotonic

from bench.load.client.client import Client
from bench.load.client.eventloop import DirectLoop
from bench.load.run.drive import Attempt, DriveResult, Load, run_load
from bench.records import PlannedRequest, Sample, Schedule

EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = EVENT_STREAM + b"Transfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = EVENT_STREAM + b"Connection: close\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def event(**content: object) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def delta(finish_reason: str | None = None, **parts: object) -> bytes:
    return event(choices=[{"index": 0, "delta": parts, "finish_reason": finish_reason}])


def usage(prompt_tokens: int, completion_tokens: int) -> bytes:
    counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return event(choices=[], usage=counts)


ROLE = delta(role="assistant", content="")
STOP = delta(finish_reason="length")
ANSWER = ROLE + delta(content="one ") + delta(content="two") + STOP + usage(7, 2) + DONE


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass
class Call:
    """One request as the server saw it. Times are of time.monotonic()."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int
    head: bytes
    body: bytes
    received_s: float
    written_s: list[float] = field(default_factory=list)

    async def write(self, data: bytes) -> None:
        """Note the time, then send `data` at once."""
        self.written_s.append(monotonic())
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection with a TCP reset instead of an orderly end."""
        no_linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, no_linger)
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing more until the client has gone."""
        await self.reader.read()

    @property
    def prompt(self) -> str:
        return str(json.loads(self.body)["messages"][0]["content"])


Script = Callable[[Call], Awaitable[None]]


@dataclass
class Source:
    """A running server: its URL, the calls it has seen and its open connections.

    With `reads_bodies` off it calls the script as soon as a head has come.
    """

    script: Script
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    reads_bodies: bool = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length) if self.reads_bodies else b""
                call = Call(reader, writer, connection, head, body, monotonic())
                self.calls.append(call)
                await self.script(call)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()


@contextmanager
def source(
    script: Script, *, tls: ssl.SSLContext | None = None, reads_bodies: bool = True
) -> Iterator[Source]:
    """Serve `script` on a free loopback port in a thread of its own."""
    served = Source(script, reads_bodies=reads_bodies)
    ready, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
        scheme = "http" if tls is None else "https"
        served.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()

    loop = asyncio.new_event_loop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield served
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def closed(count: int, concurrency: int, duration_s: float) -> Schedule:
    """A closed-loop schedule of `count` small requests."""
    return Schedule(
        requests=tuple(PlannedRequest(i, 0.0, "m", 7, 2, i) for i in range(count)),
        duration_s=duration_s,
        offered_rps=None,
        concurrency=concurrency,
        sha256="",
    )


def opened(at_s: list[float], duration_s: float) -> Schedule:
    """An open-loop schedule of small requests at the given times."""
    return Schedule(
        requests=tuple(PlannedRequest(i, at, "m", 7, 2, i) for i, at in enumerate(at_s)),
        duration_s=duration_s,
        offered_rps=len(at_s) / duration_s,
        concurrency=None,
        sha256="",
    )


def drive(
    schedule: Schedule,
    *,
    url: str,
    prompts: Sequence[str],
    drain_timeout_s: float,
) -> DriveResult:
    """Send all of `schedule` to one server."""
    load = Load(schedule, prompts, [url] * len(schedule.requests))
    return run_load(load, drain_timeout_s=drain_timeout_s)


def fetch(url: str, deadline_s: float = 20.0) -> Sample:
    """The sample of one request that is sent at once."""
    schedule = opened([0.0], 0.001)
    result = drive(schedule, url=url, prompts=["hello"], drain_timeout_s=deadline_s)
    return result.samples[0]


def fetch_many(url: str, streams: int, rounds: int) -> list[Sample]:
    """Samples whose times are of time.monotonic(), as the source's are.

    The prompt of a request is its index.
    """

    async def main() -> list[Attempt]:
        client = Client(url)
        attempts = [
            Attempt(planned=PlannedRequest(index, 0, "m", 7, 2, 0), scheduled_s=0.0)
            for index in range(streams * rounds)
        ]
        sends = (client.fetch(client.encode(f.planned, str(f.planned.index)), f) for f in attempts)
        for _ in range(rounds):
            await asyncio.gather(*islice(sends, streams))
        await client.close()
        return attempts

    with asyncio.Runner(loop_factory=DirectLoop) as runner:
        return [attempt.sample(start_s=0.0) for attempt in runner.run(main())]


def with_status(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


async def answer_at_once(call: Call) -> None:
    await call.write(CHUNKED + chunk(ANSWER) + LAST_CHUNK)
