"""Upstreams that behave as scripted, and a balancer in front of them, all on real sockets.

They calibrate the balancer's code; nothing that they answer is a measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from lb.discovery.sources import Listed, Source
from lb.http.endpoint import parse_targets
from lb.processes.listening import listen
from lb.processes.server import serving
from lb.settings import Settings

CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_HEAD = CHUNKED_HEAD % b"text/event-stream; charset=utf-8"
END_OF_CHUNKS = b"0\r\n\r\n"


@dataclass
class Call:
    """A request that has reached a scripted replica, and the connection to answer it on."""

    target: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    method: str = "POST"

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def reset(self) -> None:
        self.writer.transport.abort()


Behaviour = Callable[[Call], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    """A whole JSON answer; `head` holds extra lines, each ended by CRLF."""
    lines = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{head}"
    return f"{lines}content-length: {len(body)}\r\n\r\n".encode() + body


async def echo(call: Call) -> None:
    """Answer with the request's own body."""
    await call.send(answer(call.body))


class Streams:
    """A behaviour: streams that begin, and end when a test says so."""

    def __init__(self) -> None:
        self.finish = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        await call.send(STREAM_HEAD)
        await call.send_chunk(b"data: 1\n\n")
        await self.finish.wait()
        await call.send_chunk(b"data: [DONE]\n\n")
        await call.send(END_OF_CHUNKS)


class ScriptedReplica:
    """An HTTP server that lists models and metrics, and treats all else but GETs as scripted.

    `open` is the number of calls being answered; `left` is set once a client has closed a
    connection under a behaviour that hangs. `behaviour` answers GETs of `scripted` paths. With
    `prefix`, paths without it do not exist; with `tls` it speaks HTTPS.
    """

    def __init__(
        self,
        behaviour: Behaviour = echo,
        *,
        models: Sequence[str] = ("m",),
        metrics: bytes = b"",
        scripted: Sequence[str] = (),
        prefix: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.scripted = scripted
        self.prefix = prefix
        self.tls = tls
        self.behaviour = behaviour
        self.models = models
        self.metrics = metrics
        self.health = "200 OK"
        # What it says to whether it sleeps; None: it does not know that it could.
        self.sleep_answer: bytes | None = None
        self.sleep_status = "200 OK"
        self.sleep_checks = 0
        self.calls: list[Call] = []
        self.called = asyncio.Event()
        self.left = asyncio.Event()
        self.open = 0
        self.polls = 0
        self.checks = 0
        self.poll_headers: dict[str, str] = {}
        self.connections = 0
        self.url = ""
        self._server: asyncio.Server
        self.writers: set[asyncio.StreamWriter] = set()

    @property
    def name(self) -> str:
        return self.url.partition("://")[2]

    async def __aenter__(self) -> ScriptedReplica:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        scheme = "http" if self.tls is None else "https"
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{port}{self.prefix}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def die(self) -> None:
        """Stop listening and break every connection, as kill -9 does."""
        self._server.close()
        for writer in tuple(self.writers):
            writer.transport.abort()

    async def hang(self, call: Call) -> None:
        """A behaviour: never answer, and notice when the client leaves."""
        with contextlib.suppress(ConnectionError):
            await call.reader.read()
        self.left.set()

    async def begin_and_hang(self, call: Call) -> None:
        """A behaviour: one event of a stream, and nothing more."""
        await call.send(STREAM_HEAD)
        await call.send_chunk(b"data: 1\n\n")
        await self.hang(call)

    async def flood(self, call: Call) -> None:
        """A behaviour: a stream as fast as it is taken, until the client leaves."""
        await call.send(STREAM_HEAD)
        try:
            while True:
                await call.send_chunk(b"x" * 65536)
        finally:
            self.left.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                await self._serve_one(reader, writer)
        self.writers.discard(writer)
        writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.strip().split("\r\n")
        method, target, _ = request_line.split(" ")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if not target.startswith(self.prefix):
            writer.write(answer(b"", "404 Not Found"))
            return
        target = target.removeprefix(self.prefix)
        if method != "GET" or target.partition("?")[0] in self.scripted:
            call = Call(target, headers, body, reader, writer, method)
            self.calls.append(call)
            self.called.set()
            self.open += 1
            try:
                await self.behaviour(call)
            finally:
                self.open -= 1
        elif target == "/v1/models":
            self.polls += 1
            self.poll_headers = headers
            entries = [{"id": name, "object": "model", "root": self.url} for name in self.models]
            writer.write(answer(json.dumps({"object": "list", "data": entries}).encode()))
        elif target == "/health":
            self.checks += 1
            writer.write(answer(b"", self.health))
        elif target == "/is_sleeping":
            self.sleep_checks += 1
            sleeping = self.sleep_answer
            status = "404 Not Found" if sleeping is None else self.sleep_status
            writer.write(answer(sleeping or b"", status))
        else:
            writer.write(answer(self.metrics))


@dataclass
class Balancer:
    """A running balancer and a client for it."""

    url: str
    client: httpx.AsyncClient

    async def post(self, model: str = "m", **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", json={"model": model, **fields})

    async def stream(self, model: str = "m") -> httpx.Response:
        """A streamed answer of which only the head has been read; to be closed."""
        request = self.client.build_request(
            "POST", "/v1/chat/completions", json={"model": model, "stream": True}
        )
        return await self.client.send(request, stream=True)

    async def replicas(self) -> dict[str, dict[str, Any]]:
        """What /health says, by URL."""
        entries = (await self.client.get("/health")).json()["replicas"]
        return {entry["url"]: entry for entry in entries}

    async def until(self, url: str, **expected: object) -> None:
        """Wait until /health says so of a replica."""
        async with asyncio.timeout(20):
            while (facts := (await self.replicas()).get(url, {})) | expected != facts:
                await asyncio.sleep(0.02)

    async def metrics(self) -> str:
        return (await self.client.get("/metrics")).text


@contextlib.asynccontextmanager
async def balancer(
    *urls: str,
    policy: str = "round-robin",
    poll_interval_s: float = 0.05,
    source: Source | None = None,
    **settings: Any,
) -> AsyncIterator[Balancer]:
    """A balancer over `urls`, ready, on a port of its own; `settings` are `Settings` fields."""
    listener = listen("127.0.0.1", 0)
    made = Settings(
        policy=policy,
        source=source or Listed(parse_targets(",".join(urls), "test")),
        poll_interval_s=poll_interval_s,
        seed=1,
        grace_s=0,
        **settings,
    )
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with (
        serving(made, [listener]),
        httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client,
    ):
        yield Balancer(url, client)
