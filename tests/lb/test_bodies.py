"""What bodies take: memory, time, and nothing once they are answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from lb.http.downstream import Limits
from tests.lb.running import Running, started
from tests.lb.scrape import value
from tests.lb.scripted import Balancer, Call, ScriptedReplica, answer, balancer
from tests.lb.test_client_connection import BODY, raw

pytestmark = pytest.mark.anyio

LARGE = json.dumps({"model": "m", "prompt": "A" * 40_000_000}).encode()
MIB = 2**20


def head(stated_bytes: int, *more: str) -> bytes:
    lines = ["POST /v1/completions HTTP/1.1", "host: lb", f"content-length: {stated_bytes}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def resident_mib(running: Running) -> float:
    status = Path(f"/proc/{running.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def test_nothing_of_a_body_is_kept_once_it_is_answered() -> None:
    async def accept(call: Call) -> None:
        await call.send(answer(b"{}"))

    async with (
        ScriptedReplica(accept) as replica,
        started("--policy", "queue-aware", "--endpoints", replica.url) as running,
        asyncio.timeout(60),
    ):
        await until_ready(running)
        async with raw(running) as warm:
            await warm.send(head(len(BODY)) + BODY)
            await warm.answers()
        before = resident_mib(running)
        # Valid, of no model that there is, and no JSON: all of them are done with.
        for large in (LARGE, LARGE.replace(b'"m"', b'"x"'), LARGE[:-1], LARGE, LARGE):
            async with raw(running) as idle:
                await idle.send(head(len(large)) + large)
                await idle.answers()
                replica.calls.clear()
                assert resident_mib(running) < before + 60
        async with raw(running) as left:
            await left.send(head(len(LARGE)) + LARGE[:-1])
        while resident_mib(running) > before + 60:
            await asyncio.sleep(0.05)


async def until_ready(running: Running) -> None:
    while (await running.health())["status"] != "ok":
        await asyncio.sleep(0.02)


async def test_all_bodies_together_are_bounded_and_the_rest_is_refused() -> None:
    limits = Limits(bodies_bytes=3 * MIB, body_bytes=2 * MIB)
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, limits=limits) as lb,
        asyncio.timeout(30),
    ):
        async with raw(lb) as holds, raw(lb) as chunked, raw(lb) as fits:
            await holds.send(head(2 * MIB) + b"x" * (2 * MIB - 1))
            # As stated, before it is sent.
            await until_refused(lb, head(2 * MIB, "expect: 100-continue"))
            # As it comes.
            line = (
                b"POST /v1/completions HTTP/1.1\r\nhost: lb\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            await chunked.send(line + b"%x\r\n%b\r\n" % (2 * MIB, b"x" * (2 * MIB)))
            text = await chunked.rest()
            assert text.startswith(b"HTTP/1.1 503 ")
            assert b'"code":"bodies_too_large"' in text
            assert b"retry-after: 1\r\n" in text
            await fits.send(head(len(BODY)) + BODY)
            assert (await fits.answers()).statuses == [200]
        # Those who held it have left.
        body = json.dumps({"model": "m", "prompt": "A" * MIB}).encode()
        for _ in range(5):
            async with raw(lb) as client:
                await client.send(head(len(body)) + body)
                assert (await client.answers()).statuses == [200]
        metrics = await lb.metrics()
    assert value(metrics, "lb_refusals_total", status="503", code="bodies_too_large") >= 2


async def until_refused(lb: Balancer, request: bytes) -> None:
    """Ask until it is a 503: by then what was sent before has been read."""
    refused = b"HTTP/1.1 503 "
    while True:
        async with raw(lb) as client:
            await client.send(request)
            if await client.reader.readexactly(len(refused)) == refused:
                return
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("expect", [(), ("expect: 100-continue",)])
async def test_a_stated_length_over_the_limit_is_refused_before_it_comes(
    expect: tuple[str, ...],
) -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb, raw(lb) as client:
        await client.send(head(10_000_000_000, *expect))
        text = await client.rest()
    assert text.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in text
    assert not replica.calls


async def test_a_body_that_trickles_is_not_waited_for() -> None:
    limits = Limits(body_s=0.5, linger_s=0.1)
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, limits=limits) as lb,
        raw(lb) as client,
        asyncio.timeout(20),
    ):
        await client.send(head(100_000))
        answer = asyncio.create_task(client.rest())
        while not answer.done():
            client.writer.write(b"x")
            await asyncio.sleep(0.05)
        assert (await answer).startswith(b"HTTP/1.1 408 ")
    assert not replica.calls


async def test_a_slow_body_that_goes_on_fast_enough_is_taken() -> None:
    limits = Limits(body_s=2, body_bytes_per_s=10)
    body = BODY.replace(b"}", b" " * 35 + b"}")
    async with (
        ScriptedReplica() as replica,
        balancer(replica.url, limits=limits) as lb,
        raw(lb) as client,
    ):
        await client.send(head(len(body)))
        for byte in body:  # 3.4 s, where 2 s and a tenth for each byte are allowed
            await client.send(bytes([byte]))
            await asyncio.sleep(0.07)
        assert (await client.answers()).bodies == [body]


async def test_a_body_in_tiny_chunks_takes_no_more_than_its_bytes() -> None:
    pieces = 1_000_000
    body = json.dumps({"model": "m", "prompt": "A" * pieces}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    line = b"POST /v1/completions HTTP/1.1\r\nhost: lb\r\ntransfer-encoding: chunked\r\n\r\n"
    async with (
        ScriptedReplica() as replica,
        started("--policy", "queue-aware", "--endpoints", replica.url) as running,
        asyncio.timeout(60),
    ):
        await until_ready(running)
        before = resident_mib(running)
        async with raw(running) as client:
            await client.send(line + chunks[:-5])
            most = resident_mib(running)
            await client.send(chunks[-5:])
            assert (await client.answers()).statuses == [200]
    assert most < before + 20
