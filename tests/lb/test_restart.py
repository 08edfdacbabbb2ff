"""The balancer itself is replaced under load, and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal

import httpx
import pytest

from tests.lb.handovers import hand_over
from tests.lb.running import Running, started
from tests.lb.scripted import ScriptedReplica, Streams
from tests.lb.test_client_connection import REQUEST, raw

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


async def ready(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"{url}/health")).json()["status"] == "ok":
                    return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", [[1], [2], [1, 2], [3, 1]])
@pytest.mark.parametrize("drain_delay_s", [0.0, 0.5])
async def test_a_handover_loses_no_request(workers: list[int], drain_delay_s: float) -> None:
    """`python -m tests.lb.handovers` does it more often."""
    async with asyncio.timeout(100):
        outcomes = await hand_over(2, workers, drain_delay_s)
    assert outcomes.keys() == {"200"}
    assert outcomes.total() > 100


async def until_refused(running: Running) -> None:
    """Until then, all who come are answered."""
    with contextlib.suppress(OSError):
        while True:
            async with raw(running) as client:
                await client.send(REQUEST)
                assert b" 200 " in await client.reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_who_comes_while_it_stops_is_refused_and_does_not_wait(workers: str) -> None:
    streams = Streams()
    async with (
        ScriptedReplica(streams) as replica,
        started(
            *("--policy", "queue-aware", "--endpoints", replica.url),
            *("--workers", workers, "--grace", "600"),
        ) as running,
        asyncio.timeout(60),
    ):
        await ready(running.url)
        async with raw(running) as client:
            await client.send(REQUEST)
            assert b" 200 " in await client.reader.readuntil(b"\r\n\r\n")
            running.process.send_signal(signal.SIGTERM)
            await until_refused(running)
            streams.finish.set()
            assert b"[DONE]" in await client.reader.readuntil(b"0\r\n\r\n")
        assert await running.process.wait() == 0


async def test_a_request_that_was_on_its_way_when_it_stopped_is_answered() -> None:
    async with (
        ScriptedReplica() as replica,
        started(
            *("--policy", "queue-aware", "--endpoints", replica.url, "--grace", "60")
        ) as running,
        asyncio.timeout(60),
    ):
        await ready(running.url)
        async with raw(running) as kept, raw(running) as new:
            await kept.send(REQUEST)
            assert (await kept.answers()).statuses == [200]
            running.process.send_signal(signal.SIGTERM)
            await until_refused(running)
            for client in (kept, new):
                await client.send(REQUEST)
                text = await client.rest()
                assert text.startswith(b"HTTP/1.1 200 OK\r\n")
                assert b"connection: close\r\n" in text
        assert await running.process.wait() == 0


async def test_while_it_drains_clients_are_served_and_sent_away() -> None:
    async with (
        ScriptedReplica() as replica,
        started(
            *("--policy", "queue-aware", "--endpoints", replica.url, "--drain-delay", "30")
        ) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=20) as client,
        asyncio.timeout(30),
    ):
        await ready(running.url)
        before = await client.post("/v1/completions", content=json.dumps({"model": "m"}))
        assert "connection" not in before.headers
        running.process.send_signal(signal.SIGTERM)
        while not (await running.health())["draining"]:
            await asyncio.sleep(0.02)
        during = await client.post("/v1/completions", content=json.dumps({"model": "m"}))
        assert (during.status_code, during.headers["connection"]) == (200, "close")
        assert await running.end() == 0  # a second signal does not wait
