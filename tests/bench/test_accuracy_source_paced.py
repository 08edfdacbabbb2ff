"""Paced streams and other answers of the synthetic source, as a raw client sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from bench.load.accuracy.answers import CHAT, CHUNKS, ENDLESS, chat_body, endless_body
from bench.load.accuracy.source import Connection, Source, Wheel

PATIENCE_S = 30.0
CHUNK_EVERY_MS = 5
pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """The port of a source in this event loop."""
    loop = asyncio.get_running_loop()
    source = Source(Wheel(loop), CHUNK_EVERY_MS)
    server = await loop.create_server(lambda: Connection(source), "127.0.0.1", 0)
    async with server, asyncio.timeout(PATIENCE_S):
        yield server.sockets[0].getsockname()[1]


def request(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def read_stream(reader: asyncio.StreamReader) -> list[float]:
    """The arrival of each event up to the end of the body; head and framing are checked."""
    loop = asyncio.get_running_loop()
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/event-stream" in head
    arrivals, text = list[float](), b""
    while size := int(await reader.readline(), 16):
        text += await reader.readexactly(size)
        arrivals += [loop.time()]
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    events = [event.removeprefix(b"data: ") for event in text.split(b"\n\n")[:-1]]
    assert events.pop() == b"[DONE]"
    assert len(events) == len(arrivals)
    assert json.loads(events[-1])["choices"][0]["finish_reason"] == "stop"
    return arrivals


async def test_an_answer_of_one_kilobyte_comes_whole() -> None:
    async with served() as port, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"http://127.0.0.1:{port}{CHAT}", content=chat_body(stream=False)
        )
    assert answer.json()["object"] == "chat.completion"
    assert len(answer.content) == 1024


async def test_a_stream_has_its_chunks_one_after_the_other() -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):  # the connection can be used again
            writer.write(request(CHAT, chat_body(stream=True)))
            arrivals = await read_stream(reader)
            assert len(arrivals) == CHUNKS
            # A busy machine makes it longer; never shorter, but for the grid of 1 ms.
            assert arrivals[-1] - arrivals[0] > (CHUNKS - 1) * CHUNK_EVERY_MS / 1000 * 0.9
        writer.close()


async def test_streams_side_by_side_take_no_longer_than_one() -> None:
    async def stream(port: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(CHAT, chat_body(stream=True)))
        arrivals = await read_stream(reader)
        writer.close()
        return len(arrivals)

    async with served() as port:
        started_s = asyncio.get_running_loop().time()
        counts = await asyncio.gather(*(stream(port) for _ in range(100)))
        elapsed_s = asyncio.get_running_loop().time() - started_s
    assert set(counts) == {CHUNKS}
    assert elapsed_s < 100 * CHUNKS * CHUNK_EVERY_MS / 1000 / 2


async def test_a_request_may_come_in_pieces() -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = request(CHAT, chat_body(stream=False))
        for piece in (data[:20], data[20:-10], data[-10:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_an_endless_stream_begins_at_once_and_goes_on() -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(ENDLESS, endless_body()))
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(2):
            await reader.readuntil(b"data: ")
        writer.close()


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics"])
async def test_what_routers_ask_for_is_there(path: str) -> None:
    async with served() as port, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{port}{path}")).status_code == 200
        assert (await client.get(f"http://127.0.0.1:{port}/other")).status_code == 404


async def test_what_is_not_http_ends_the_connection() -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"no request\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
