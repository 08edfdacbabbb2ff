"""Clients as they come: pipelined, slow, half-closed, hostile. All on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httptools
import pytest

from lb.http.downstream import Limits
from tests.lb.running import Running
from tests.lb.scripted import (
    END_OF_CHUNKS,
    STREAM_HEAD,
    Balancer,
    Call,
    ScriptedReplica,
    answer,
    balancer,
)

pytestmark = pytest.mark.anyio

BODY = b'{"model":"m"}'
POST = b"POST /v1/completions HTTP/1.1\r\nhost: lb\r\ncontent-length: %d\r\n" % len(BODY)
REQUEST = POST + b"\r\n" + BODY


class Answers:
    """Answers on one connection, taken apart by a parser that is not the balancer's own."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.bodies: list[bytes] = []
        self.complete = 0
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self.bodies.append(b"")

    def on_headers_complete(self) -> None:
        self.statuses.append(self.parser.get_status_code())

    def on_body(self, data: bytes) -> None:
        self.bodies[-1] += data

    def on_message_complete(self) -> None:
        self.complete += 1


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answers(self, count: int = 1) -> Answers:
        """The next `count` answers."""
        answers = Answers()
        async with asyncio.timeout(20):
            while answers.complete < count:
                data = await self.reader.read(65536)
                assert data, f"closed after {answers.complete} of {count} answers"
                answers.parser.feed_data(data)
        return answers

    async def rest(self) -> bytes:
        """Everything until the balancer closes the connection."""
        async with asyncio.timeout(20):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def raw(lb: Balancer | Running) -> AsyncIterator[RawClient]:
    host, port = lb.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()


# Requests, one after the other


async def test_a_connection_carries_many_requests() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        for _ in range(3):
            await client.send(REQUEST)
            answers = await client.answers()
            assert (answers.statuses, answers.bodies) == ([200], [BODY])
    assert len(replica.calls) == 3


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def slow_first(call: Call) -> None:
        if b"0" in call.body:
            await asyncio.sleep(0.1)
        await call.send(answer(call.body))

    bodies = [b'{"model":"m","n":%d}' % number for number in range(5)]
    requests = [
        b"POST /v1/completions HTTP/1.1\r\nhost: lb\r\ncontent-length: %d\r\n\r\n" % len(body)
        + body
        for body in bodies
    ]
    async with (
        ScriptedReplica(slow_first) as one,
        ScriptedReplica(slow_first) as two,
        balancer(one.url, two.url) as lb,
        raw(lb) as client,
    ):
        await client.send(b"".join(requests))
        assert (await client.answers(5)).bodies == bodies


async def test_a_flood_of_pipelined_requests_is_answered_in_full() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        sending = asyncio.create_task(client.send(REQUEST * 500))
        answers = await client.answers(500)
        await sending
    assert answers.statuses == [200] * 500


async def test_a_request_in_single_bytes_is_a_request() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        for index in range(len(REQUEST)):
            await client.send(REQUEST[index : index + 1])
            await asyncio.sleep(0)
        assert (await client.answers()).bodies == [BODY]


async def test_a_chunked_body_is_forwarded_with_its_length() -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: lb\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"5;x=y\r\n" + BODY[:5] + b"\r\n8\r\n" + BODY[5:] + b"\r\n0\r\nx-late: 1\r\n\r\n"
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        await client.send(head + chunks)
        assert (await client.answers()).bodies == [BODY]
    headers = replica.calls[0].headers
    assert headers["content-length"] == str(len(BODY))
    assert not {"transfer-encoding", "x-late"} & headers.keys()


async def test_a_client_that_waits_for_leave_to_send_gets_it() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        await client.send(POST + b"expect: 100-continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(BODY)
        assert (await client.answers()).bodies == [BODY]
    assert "expect" not in replica.calls[0].headers


async def test_connection_close_is_honoured() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        await client.send(POST + b"connection: close\r\n\r\n" + BODY)
        text = await client.rest()
    assert b"connection: close\r\n" in text
    assert text.endswith(BODY)


async def test_http_1_0_gets_no_chunks_and_ends_with_the_connection() -> None:
    async def stream(call: Call) -> None:
        await call.send(STREAM_HEAD)
        await call.send_chunk(b"data: 1\n\n")
        await asyncio.sleep(0.05)
        await call.send_chunk(b"data: [DONE]\n\n")
        await call.send(END_OF_CHUNKS)

    async with ScriptedReplica(stream) as replica, balancer(replica.url) as lb, raw(lb) as client:
        await client.send(REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"data: 1\n\ndata: [DONE]\n\n"


async def test_headers_of_one_hop_end_there() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        hop = b"connection: keep-alive, x-private\r\nx-private: 1\r\nte: trailers\r\nx-kept: 2\r\n"
        await client.send(POST + hop + b"\r\n" + BODY)
        await client.answers()
    headers = replica.calls[0].headers
    assert headers["x-kept"] == "2"
    assert not {"connection", "x-private", "te"} & headers.keys()


async def test_a_client_that_closes_its_side_has_left() -> None:
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url) as lb,
        raw(lb) as client,
        asyncio.timeout(20),
    ):
        replica.behaviour = replica.hang
        await client.send(REQUEST)
        await replica.called.wait()
        client.writer.write_eof()
        await replica.left.wait()
        await lb.until(replica.url, in_flight=0)


# What is no request


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(POST + b"transfer-encoding: chunked\r\n\r\n" + BODY, id="length and chunks"),
        pytest.param(POST + b"content-length: 1\r\n\r\n" + BODY, id="two lengths"),
        pytest.param(POST.replace(b"13", b"+13") + b"\r\n" + BODY, id="signed length"),
        pytest.param(POST.replace(b"13", b"13, 13") + b"\r\n" + BODY, id="list of lengths"),
        pytest.param(POST + b"x: a\r\n b\r\n\r\n" + BODY, id="folded line"),
        pytest.param(POST + b"x : a\r\n\r\n" + BODY, id="space before colon"),
        pytest.param(POST + b"x: a\0b\r\n\r\n" + BODY, id="NUL in a value"),
        pytest.param(POST + b"x: a\rb: c\r\n\r\n" + BODY, id="bare CR"),
        pytest.param(POST + b"host: other\r\n\r\n" + BODY, id="two hosts"),
        pytest.param(REQUEST.replace(b"host: lb\r\n", b""), id="no host"),
        pytest.param(
            REQUEST.replace(b"content-length: 13", b"transfer-encoding: gzip"), id="unknown coding"
        ),
        pytest.param(
            REQUEST.replace(b"content-length: 13", b"transfer-encoding: chunked, identity"),
            id="chunks not last",
        ),
        pytest.param(REQUEST.replace(b"/v1", b"ftp://lb/v1"), id="target of another scheme"),
        pytest.param(REQUEST.replace(b"HTTP/1.1", b"HTTP/3.1"), id="unknown version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(
            POST + b"upgrade: websocket\r\nconnection: upgrade\r\n\r\n" + BODY, id="WebSocket"
        ),
    ],
)
async def test_what_smuggles_or_is_not_http_is_refused_and_never_forwarded(
    request_bytes: bytes,
) -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        await client.send(request_bytes)
        text = await client.rest()
    assert text.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"code":"bad_request"' in text
    assert text.count(b"HTTP/1.1 ") == 1
    assert not replica.calls


async def test_a_bad_request_behind_a_good_one_spoils_only_itself() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        await client.send(REQUEST + b"GARBAGE\r\n\r\n")
        answers = Answers()
        answers.parser.feed_data(await client.rest())
    assert answers.statuses == [200, 400]
    assert answers.bodies[0] == BODY


async def test_a_head_over_the_limit_is_a_431() -> None:
    limits = Limits(head_bytes=1000)
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, limits=limits) as lb,
        raw(lb) as client,
    ):
        await client.send(POST + b"x: " + b"x" * 2000)
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")


# Clients that are slow


@pytest.mark.parametrize("part", [POST, POST + b"\r\n" + BODY[:5]], ids=["head", "body"])
async def test_a_request_that_does_not_come_is_a_408(part: bytes) -> None:
    limits = Limits(head_s=0.3, body_s=0.3)
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, limits=limits) as lb,
        raw(lb) as client,
    ):
        await client.send(part)
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
    assert not replica.calls


async def test_a_head_that_trickles_is_not_waited_for() -> None:
    limits = Limits(head_s=0.5)
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, limits=limits) as lb,
        raw(lb) as client,
        asyncio.timeout(10),
    ):
        with contextlib.suppress(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nx: " + b"x" * 10_000:
                await client.send(bytes([byte]))
                await asyncio.sleep(0.02)
                if client.reader.at_eof():
                    break


async def test_a_connection_without_a_request_is_closed() -> None:
    limits = Limits(idle_s=0.2, head_s=0.2)
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, limits=limits) as lb,
        raw(lb) as used,
        raw(lb) as silent,
    ):
        await used.send(REQUEST)
        await used.answers()
        assert await used.rest() == b""
        assert await silent.rest() == b""


async def test_a_client_that_takes_nothing_is_given_up() -> None:
    limits = Limits(stalled_s=0.3)
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, limits=limits) as lb,
        raw(lb) as client,
        asyncio.timeout(20),
    ):
        replica.behaviour = replica.flood
        await client.send(REQUEST)
        await replica.left.wait()
        await lb.until(replica.url, in_flight=0)
