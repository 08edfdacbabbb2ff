"""Timed streams of the synthetic source, as a raw client sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from bench.load.accuracy.answers import CHAT, REPORT, StreamPlan, read_plan
from bench.load.accuracy.source import Connection, Source, Wheel

PATIENCE_S = 30.0
pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a source in this event loop."""
    loop = asyncio.get_running_loop()
    source = Source(Wheel(loop), every_ms=0)
    server = await loop.create_server(lambda: Connection(source), "127.0.0.1", 0)
    async with server, asyncio.timeout(PATIENCE_S):
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield reader, writer
        writer.close()


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chat(plan: StreamPlan) -> bytes:
    body = {"messages": [{"role": "user", "content": plan.prompt()}], "stream": True}
    return request("POST", CHAT, json.dumps(body).encode())


async def read_stream(reader: asyncio.StreamReader) -> list[dict[str, Any]]:
    """The events of an answer up to [DONE]; head and framing are checked."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/event-stream" in head
    text = b""
    while size := int(await reader.readline(), 16):
        text += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    *events, done, rest = text.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


async def read_whole(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


def contents(events: list[dict[str, Any]]) -> Iterator[str]:
    for event in events:
        for choice in event["choices"]:
            if text := choice["delta"].get("content"):
                yield text


async def test_every_chunk_carries_the_time_that_the_source_reports_later() -> None:
    async with connected() as (reader, writer):
        before_s = monotonic()
        writer.write(chat(StreamPlan(5, first_ms=20, every_ms=10, chunks=4)))
        events = await read_stream(reader)
        writer.write(request("GET", REPORT))
        status, report = await read_whole(reader)
    arrived_s, *sent_s = report["times"]["5"]
    assert status == 200
    assert [float(text) for text in contents(events)] == pytest.approx(sent_s, abs=1e-8)
    assert before_s <= arrived_s <= sent_s[0] <= sent_s[-1] <= monotonic()


async def test_no_chunk_comes_before_it_is_due() -> None:
    async with connected() as (reader, writer):
        writer.write(chat(StreamPlan(0, first_ms=20, every_ms=10, chunks=4)))
        await read_stream(reader)
        writer.write(request("GET", REPORT))
        _, report = await read_whole(reader)
    arrived_s, *sent_s = report["times"]["0"]
    assert all(sent - arrived_s >= 0.02 + 0.01 * index - 1e-6 for index, sent in enumerate(sent_s))


async def test_an_answer_has_the_shape_of_a_chat_completion() -> None:
    async with connected() as (reader, writer):
        writer.write(chat(StreamPlan(0, first_ms=1, every_ms=1, chunks=3)))
        first, *middle, last, usage = await read_stream(reader)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [one["choices"][0]["finish_reason"] for one in middle] == [None] * 3
    assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "length"}
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 3)


async def test_a_late_chunk_claims_an_earlier_time() -> None:
    async with connected() as (reader, writer):
        before_s = monotonic()
        writer.write(chat(StreamPlan(0, first_ms=1, every_ms=1, chunks=4, late_ms=(0, 5000))))
        claimed = [float(text) for text in contents(await read_stream(reader))]
    assert all(sent_s >= before_s for sent_s in claimed[::2])
    assert all(sent_s < before_s for sent_s in claimed[1::2])


async def test_times_are_reported_once() -> None:
    async with connected() as (reader, writer):
        writer.write(chat(StreamPlan(0, first_ms=1, every_ms=1, chunks=1)))
        await read_stream(reader)
        for expected in ({"0"}, set[str]()):
            writer.write(request("GET", REPORT))
            _, report = await read_whole(reader)
            assert set(report["times"]) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"messages": []}',
        b'{"messages": [{}]}',
        b'{"messages": [{"content": "stream by this plan: [1]"}]}',
    ],
)
async def test_what_is_no_chat_request_is_refused(body: bytes) -> None:
    async with connected() as (reader, writer):
        writer.write(request("POST", CHAT, body))
        assert (await read_whole(reader))[0] == 400
        writer.write(request("GET", "/other"))
        assert (await read_whole(reader))[0] == 404


async def test_what_is_not_http_ends_the_connection() -> None:
    async with connected() as (reader, writer):
        writer.write(b"no request\r\n\r\n")
        assert await reader.read() == b""


def test_a_plan_comes_through_a_prompt_unchanged() -> None:
    plan = StreamPlan(7, first_ms=20, every_ms=5, chunks=9, late_ms=(0, 40))
    assert read_plan(plan.prompt()) == plan
    assert read_plan("{}") is None
