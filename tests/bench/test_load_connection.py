"""Which connections are kept for the next request, and what becomes of those that are not."""

from __future__ import annotations

import asyncio
import socket

import pytest

from bench.load.client.connection import Connection
from bench.load.client.eventloop import DirectLoop
from bench.load.client.exchange import Exchange
from bench.records import ErrorKind
from tests.bench.load_source import (
    ANSWER,
    CHUNKED,
    LAST_CHUNK,
    Call,
    answer_at_once,
    chunk,
    drive,
    fetch_many,
    opened,
    source,
    with_status,
)


def test_a_connection_is_kept_for_the_next_request() -> None:
    with source(answer_at_once) as served:
        samples = fetch_many(served.url, streams=1, rounds=3)
    assert all(sample.ok for sample in samples)
    assert served.connections == 1


def test_a_connection_that_the_server_announces_to_close_is_not_kept() -> None:
    async def script(call: Call) -> None:
        head = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        await call.write(head + chunk(ANSWER) + LAST_CHUNK)

    with source(script) as served:
        samples = fetch_many(served.url, streams=1, rounds=2)
    assert [sample.error for sample in samples] == [None, None]
    assert served.connections == 2


@pytest.mark.parametrize(
    "more",
    [b"junk", CHUNKED + LAST_CHUNK],
    ids=["junk", "a second answer"],
)
def test_a_connection_with_bytes_after_the_answer_is_not_kept(more: bytes) -> None:
    async def script(call: Call) -> None:
        await call.write(CHUNKED + chunk(ANSWER) + LAST_CHUNK + more)

    with source(script) as served:
        samples = fetch_many(served.url, streams=1, rounds=2)
    assert [sample.error for sample in samples] == [None, None]
    assert served.connections == 2


def test_a_connection_that_spoke_unasked_is_not_used() -> None:
    async def script(call: Call) -> None:
        await answer_at_once(call)
        await asyncio.sleep(0.05)
        await call.write(with_status(b"408 Request Time-out", b"idle for too long"))

    with source(script) as served:
        schedule = opened([0.0, 0.4], 0.5)
        result = drive(schedule, url=served.url, prompts=["1", "2"], drain_timeout_s=20)
    assert [sample.error for sample in result.samples] == [None, None]
    assert [call.connection for call in served.calls] == [1, 2]


def test_a_connection_that_cannot_be_kept_is_closed_at_once() -> None:
    seen: list[str] = []

    async def script(call: Call) -> None:
        seen.append(call.prompt)
        if call.prompt == "garbage":
            await call.write(b"garbage\r\n")
            await call.hang()
            seen.append("hung up")
        else:
            await answer_at_once(call)

    with source(script) as served:
        schedule = opened([0.0, 0.4], 0.5)
        drive(schedule, url=served.url, prompts=["garbage", "next"], drain_timeout_s=20)
    assert seen == ["garbage", "hung up", "next"]


def test_a_connection_lost_before_its_first_request_is_a_disconnect() -> None:
    async def main() -> Exchange:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection, exchange = Connection(ours, loop.direct), Exchange()
        theirs.close()
        await asyncio.sleep(0.05)
        await connection.send(b"", exchange)
        return exchange

    loop = DirectLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        failure = runner.run(main()).failure
    assert failure is not None
    assert failure.kind is ErrorKind.DISCONNECT
    assert failure.detail == "closed before the request was sent"


def test_a_kept_connection_that_proves_closed_is_replaced_once_with_the_first_send_time() -> None:
    async def script(call: Call) -> None:
        if len(served.calls) == 2:
            await asyncio.sleep(0.05)
            call.reset()
        else:
            await answer_at_once(call)

    with source(script) as served:
        samples = fetch_many(served.url, streams=1, rounds=2)
    assert [sample.error for sample in samples] == [None, None]
    assert [call.connection for call in served.calls] == [1, 1, 2]
    assert served.calls[1].body == served.calls[2].body
    assert samples[1].sent_s is not None
    assert samples[1].sent_s < served.calls[1].received_s


def test_a_request_larger_than_the_socket_takes_is_sent_whole() -> None:
    prompt = "long " * 2_000_000

    with source(answer_at_once) as served:
        schedule = opened([0.0], 0.001)
        result = drive(schedule, url=served.url, prompts=[prompt], drain_timeout_s=20)
    assert [sample.error for sample in result.samples] == [None]
    assert [call.prompt == prompt for call in served.calls] == [True]


def test_an_answer_that_comes_before_the_request_is_sent_ends_it_and_the_connection() -> None:
    async def script(call: Call) -> None:
        await call.write(with_status(b"429 Slow down", b"not now"))
        await asyncio.sleep(0.5)

    with source(script, reads_bodies=False) as served:
        schedule = opened([0.0, 0.2], 0.3)
        prompts = ["long " * 2_000_000, "short"]
        result = drive(schedule, url=served.url, prompts=prompts, drain_timeout_s=20)
    assert [sample.error for sample in result.samples] == [ErrorKind.RATE_LIMITED] * 2
    assert [call.connection for call in served.calls] == [1, 2]


def test_a_request_is_not_sent_a_third_time() -> None:
    async def script(call: Call) -> None:
        if len(served.calls) == 1:
            await answer_at_once(call)
        else:
            call.reset()

    with source(script) as served:
        samples = fetch_many(served.url, streams=1, rounds=2)
    assert [sample.error for sample in samples] == [None, ErrorKind.DISCONNECT]
    assert len(served.calls) == 3
