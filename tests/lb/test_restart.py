"""The balancer itself is replaced under load, and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal

import httpx
import pytest

from tests.lb.running import Running, started
from tests.lb.scripted import Call, ScriptedReplica, answer

pytestmark = pytest.mark.anyio


async def slow(call: Call) -> None:
    await asyncio.sleep(0.01)
    await call.send(answer(b"{}"))


async def ready(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"{url}/health")).json()["status"] == "ok":
                    return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_rolling_restart_of_the_balancer_loses_no_request(workers: str) -> None:
    over = asyncio.Event()
    statuses: list[int] = []

    async def keep_asking(url: str) -> None:
        """On a connection that is kept while the balancer keeps it."""
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            while not over.is_set():
                response = await client.post(f"{url}/v1/completions", json={"model": "m"})
                statuses.append(response.status_code)

    async with (
        ScriptedReplica(slow) as replica,
        contextlib.AsyncExitStack() as stack,
        asyncio.timeout(60),
    ):
        options = (
            *("--policy", "queue-aware", "--endpoints", replica.url, "--workers", workers),
            *("--reuse-port", "--drain-delay", "0.5"),
        )

        old = await stack.enter_async_context(started(*options))
        await ready(old.url)
        clients = [asyncio.create_task(keep_asking(old.url)) for _ in range(6)]
        for _ in range(3):
            port = old.url.rpartition(":")[2]
            new = await stack.enter_async_context(started(*options, "--port", port))
            await until_serving(new)
            assert await old.end() == 0
            old = new
        over.set()
        await asyncio.gather(*clients)
    assert set(statuses) == {200}
    assert len(statuses) > 100


async def until_serving(running: Running) -> None:
    """Both listen on one port, so that only its log tells when the new one does."""
    while not any("is healthy and serves" in line for line in running.log):
        await asyncio.sleep(0.02)


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
