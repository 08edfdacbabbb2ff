"""What a client gets through the balancer is what the replica sends, as it sends it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import Callable

import httpx
import pytest

from tests.lb.scripted import (
    CHUNKED_HEAD,
    END_OF_CHUNKS,
    STREAM_HEAD,
    Call,
    ScriptedReplica,
    answer,
    balancer,
)

pytestmark = pytest.mark.anyio


async def test_each_chunk_is_passed_on_before_the_next_one_is_sent() -> None:
    received = asyncio.Event()

    async def one_at_a_time(call: Call) -> None:
        await call.send(STREAM_HEAD)
        for number in range(5):
            await call.send_chunk(b"data: %d\n\n" % number)
            await received.wait()
            received.clear()
        await call.send(END_OF_CHUNKS)

    async with (
        ScriptedReplica(one_at_a_time) as replica,
        balancer(replica.url) as lb,
        asyncio.timeout(20),
    ):
        response = await lb.stream()
        chunks = []
        async for chunk in response.aiter_raw():
            chunks.append(chunk)
            received.set()
    assert chunks == [b"data: %d\n\n" % number for number in range(5)]


EVENTS = [
    b"\xef\xbb\xbfdata: 1\r\rdata: 2\n\ndata: 3\r\n\r\n",
    b": ping\n\n:\n\nid: 7\nretry: 10\nevent: x\ndata\n\ndata:\n\n",
    b"data: not JSON\ndata:\xff\xfe\x00\r\n\ndata: [DONE]\r\r",
]


async def test_events_are_passed_on_byte_for_byte_however_they_are_written() -> None:
    async def stream(call: Call) -> None:
        await call.send(STREAM_HEAD)
        for events in EVENTS:
            for byte in events:
                await call.send_chunk(bytes([byte]))
        await call.send(END_OF_CHUNKS)

    async with ScriptedReplica(stream) as replica, balancer(replica.url) as lb:
        response = await lb.post(stream=True)
    assert response.content == b"".join(EVENTS)


async def test_encoded_answers_are_passed_on_as_they_were_asked_for() -> None:
    compressed = gzip.compress(b"data: 1\n\n")

    async def stream(call: Call) -> None:
        head = CHUNKED_HEAD.replace(b"\r\n", b"\r\ncontent-encoding: gzip\r\n", 1)
        await call.send(head % b"text/event-stream")
        await call.send_chunk(compressed)
        await call.send(END_OF_CHUNKS)

    async with ScriptedReplica(stream) as replica, balancer(replica.url) as lb:
        response = await lb.client.post(
            "/v1/completions", json={"model": "m"}, headers={"accept-encoding": "gzip"}
        )
    assert replica.calls[0].headers["accept-encoding"] == "gzip"
    assert response.headers["content-encoding"] == "gzip"
    assert response.content == b"data: 1\n\n"


async def test_a_stream_is_ended_where_the_replica_ends_it() -> None:
    async def stream(call: Call) -> None:
        await call.send(STREAM_HEAD)
        await call.send_chunk(b"data: 1\n\n")
        await call.send_chunk(b"data: [DONE]\n\n")
        await call.send(END_OF_CHUNKS)

    async with ScriptedReplica(stream) as replica, balancer(replica.url) as lb:
        response = await lb.post(stream=True)
        again = await lb.post(stream=True)
    assert response.text == again.text == "data: 1\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize(
    ("head", "says_so"),
    [
        ("content-type: Text/Event-Stream", True),
        ("content-type: text/event-stream\r\ncontent-encoding: Identity", True),
        ("content-type: text/event-stream\r\ncontent-encoding: gzip", False),
    ],
)
async def test_a_stream_that_breaks_says_so_in_an_event_unless_it_is_encoded(
    head: str, says_so: bool
) -> None:
    async def cut(call: Call) -> None:
        lines = f"HTTP/1.1 200 OK\r\n{head}\r\ntransfer-encoding: chunked\r\n\r\n"
        await call.send(lines.encode())
        await call.send_chunk(gzip.compress(b"data: 1\n\n"))
        call.writer.close()

    async with ScriptedReplica(cut) as replica, balancer(replica.url) as lb:
        body = b""
        with contextlib.nullcontext() if says_so else pytest.raises(httpx.RemoteProtocolError):
            async with lb.client.stream("POST", "/v1/completions", json={"model": "m"}) as answer:
                async for part in answer.aiter_raw():
                    body += part
    assert (b'\n\ndata: {"error":' in body) == says_so


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def until_closed(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        call.writer.close()

    async with ScriptedReplica(until_closed) as replica, balancer(replica.url) as lb:
        response = await lb.post()
    assert response.text == "all of it"


async def test_interim_answers_are_skipped() -> None:
    async def interim_first(call: Call) -> None:
        await call.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(b"{}"))

    async with ScriptedReplica(interim_first) as replica, balancer(replica.url) as lb:
        response = await lb.post()
    assert (response.status_code, response.text) == (200, "{}")
    assert "link" not in response.headers


async def test_the_body_of_an_interim_answer_is_no_part_of_the_real_one() -> None:
    async def interim_first(call: Call) -> None:
        interim = b"HTTP/1.1 199 Hm\r\ncontent-length: 4\r\n\r\nhint"
        await call.send(interim + answer(b"{}"))

    async with ScriptedReplica(interim_first) as replica, balancer(replica.url) as lb:
        response = await lb.post()
    assert (response.status_code, response.text) == (200, "{}")


async def test_only_the_first_of_two_answers_counts_and_its_connection_is_not_used_again() -> None:
    async def twice(call: Call) -> None:
        await call.send(answer(b"{}") + answer(b'{"forged": 1}'))

    async with (
        ScriptedReplica(twice) as replica,
        balancer(replica.url, poll_interval_s=60) as lb,
    ):
        responses = [await lb.post() for _ in range(2)]
        connections = replica.connections
    assert [(response.status_code, response.text) for response in responses] == [(200, "{}")] * 2
    # One of the poller, which the first request took over, and one more.
    assert connections == 2


async def test_an_empty_answer_is_passed_on() -> None:
    async def nothing(call: Call) -> None:
        await call.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with ScriptedReplica(nothing) as replica, balancer(replica.url) as lb:
        response = await lb.post()
    assert (response.status_code, response.content) == (204, b"")


async def test_the_request_arrives_as_it_was_sent() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        body = json.dumps({"model": "m", "prompt": "äöü " * 1000}).encode()
        response = await lb.client.post(
            "/v1/any/route?a=1&b=%20",
            content=body,
            headers={"authorization": "Bearer key", "x-request-id": "7"},
        )
    (call,) = replica.calls
    assert response.content == call.body == body
    assert call.target == "/v1/any/route?a=1&b=%20"
    assert call.headers["host"] == replica.name
    assert call.headers["authorization"] == "bearer key"
    assert call.headers["x-request-id"] == "7"


async def test_headers_of_one_hop_are_not_passed_on() -> None:
    async def with_hop_headers(call: Call) -> None:
        await call.send(
            answer(
                b"{}",
                head="connection: x-private\r\nx-private: 1\r\nkeep-alive: timeout=5\r\n"
                "x-public: 2\r\nx-lb-replica: forged\r\n",
            )
        )

    async with ScriptedReplica(with_hop_headers) as replica, balancer(replica.url) as lb:
        response = await lb.client.post(
            "/v1/completions",
            json={"model": "m"},
            headers={"connection": "keep-alive, x-mine", "x-mine": "1", "te": "trailers"},
        )
    (call,) = replica.calls
    assert not {"connection", "x-mine", "te"} & call.headers.keys()
    assert not {"x-private", "keep-alive"} & response.headers.keys()
    assert response.headers["x-public"] == "2"
    assert response.headers.get_list("x-lb-replica") == [replica.name]


async def test_an_error_of_the_replica_is_passed_on_with_its_name() -> None:
    async def broken(call: Call) -> None:
        await call.send(answer(b'{"error": "busy"}', status="500 Internal Server Error"))

    async with (
        ScriptedReplica(broken) as first,
        ScriptedReplica() as second,
        balancer(first.url, second.url) as lb,
    ):
        response = await lb.post()
    assert (response.status_code, response.json()) == (500, {"error": "busy"})
    assert response.headers["x-lb-replica"] == first.name
    assert not second.calls


async def test_connections_to_a_replica_are_kept() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url, poll_interval_s=60) as lb:
        for _ in range(10):
            assert (await lb.post()).status_code == 200
        assert replica.connections == 1


async def test_a_client_that_does_not_read_stops_the_replica_from_sending() -> None:
    block, blocks = b"x" * 65536, 1000
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        await call.send(STREAM_HEAD)
        for _ in range(blocks):
            await call.send_chunk(block)
            sent += 1
        await call.send(END_OF_CHUNKS)

    async with ScriptedReplica(flood) as replica, balancer(replica.url) as lb:
        response = await lb.stream()
        await _until_still(lambda: sent)
        assert sent < blocks
        assert len(await response.aread()) == blocks * len(block)


async def _until_still(value: Callable[[], int]) -> None:
    before = -1
    while value() != before:
        before = value()
        await asyncio.sleep(0.3)
