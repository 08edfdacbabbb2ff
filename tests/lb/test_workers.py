"""Several worker processes on one port are one balancer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.lb.running import Running, alive, started
from tests.lb.scripted import Call, ScriptedReplica, Streams

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

WORKERS = 3


@contextlib.asynccontextmanager
async def cluster(*arguments: str, replicas: list[ScriptedReplica]) -> AsyncIterator[Running]:
    urls = ",".join(replica.url for replica in replicas)
    options = ("--endpoints", urls, "--workers", str(WORKERS), "--poll-interval", "0.1")
    async with started(*options, *arguments) as running, asyncio.timeout(60):
        await eventually(running, lambda facts: all(one["healthy"] for one in facts["replicas"]))
        yield running


async def eventually(running: Running, holds: object) -> None:
    assert callable(holds)
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if holds(await running.health()):
                return
        await asyncio.sleep(0.02)


async def post(url: str) -> httpx.Response:
    """A request on a connection of its own, so that any worker may get it."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.post(f"{url}/v1/completions", json={"model": "m"})


@contextlib.asynccontextmanager
async def open_streams(url: str, count: int) -> AsyncIterator[list[httpx.Response]]:
    """Streams that have begun, each on a connection of its own, opened one after another."""
    async with contextlib.AsyncExitStack() as stack:
        responses = []
        for _ in range(count):
            client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=20))
            body = {"model": "m", "stream": True}
            streaming = client.stream("POST", f"{url}/v1/completions", json=body)
            responses.append(await stack.enter_async_context(streaming))
        yield responses


@pytest.mark.parametrize("policy", ["least-outstanding", "queue-aware", "round-robin"])
async def test_workers_choose_as_one_balancer_would(policy: str) -> None:
    streams = Streams()
    async with contextlib.AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(ScriptedReplica(streams)) for _ in range(4)]
        running = await stack.enter_async_context(cluster("--policy", policy, replicas=replicas))
        async with open_streams(running.url, 40) as responses:
            assert await running.in_flight() == [10, 10, 10, 10]
            streams.finish.set()
            for response in responses:
                assert (await response.aread()).endswith(b"[DONE]\n\n")
        assert await running.in_flight() == [0, 0, 0, 0]


async def test_a_bound_holds_for_all_workers_together_and_places_pass_between_them() -> None:
    streams = Streams()
    most = 0

    async def watched(call: Call) -> None:
        nonlocal most
        most = max(most, replica.open)
        await streams(call)

    async with (
        ScriptedReplica(watched) as replica,
        cluster(
            *("--policy", "queue-aware", "--max-in-flight", "2"), replicas=[replica]
        ) as running,
    ):
        async with open_streams(running.url, 2):
            waiting = [asyncio.create_task(post(running.url)) for _ in range(12)]
            assert await running.in_flight() == [2]
            streams.finish.set()
        assert [(await one).status_code for one in waiting] == [200] * 12
        assert await running.in_flight() == [0]
    assert most == 2


async def test_a_worker_that_is_killed_is_replaced_and_what_it_had_is_uncounted() -> None:
    streams = Streams()
    async with (
        ScriptedReplica(streams) as one,
        ScriptedReplica(streams) as two,
        cluster("--policy", "least-outstanding", replicas=[one, two]) as running,
    ):
        control, *workers = running.children()
        async with open_streams(running.url, 12):
            os.kill(workers[0], signal.SIGKILL)
            while alive(workers[0]) or len(running.children()) < 1 + WORKERS:
                await asyncio.sleep(0.02)
            streams.finish.set()
            # Streams of the others go on; the killed worker's are broken, and no longer counted.
            await eventually(
                running, lambda facts: not any(r["in_flight"] for r in facts["replicas"])
            )
        assert running.children()[0] == control
        assert [(await post(running.url)).status_code for _ in range(12)] == [200] * 12
    assert any(
        "worker 0 was killed by signal 9 and is started again" in line for line in running.log
    )


async def test_without_its_control_plane_it_serves_on_until_there_is_a_new_one() -> None:
    async with (
        ScriptedReplica() as replica,
        cluster("--policy", "queue-aware", replicas=[replica]) as running,
    ):
        control, *workers = running.children()
        os.kill(control, signal.SIGKILL)
        assert [(await post(running.url)).status_code for _ in range(20)] == [200] * 20
        await eventually(running, lambda facts: facts["status"] == "ok")
        assert [(await post(running.url)).status_code for _ in range(20)] == [200] * 20
        assert set(workers) < set(running.children())
        text = (await _get(f"{running.url}/metrics")).text
        assert f'lb_requests_total{{replica="{replica.name}",model="m",status="200"}} 40' in text


async def test_workers_know_at_once_of_a_replica_that_one_of_them_found_gone() -> None:
    async with (
        ScriptedReplica() as stays,
        ScriptedReplica() as goes,
        cluster(
            "--policy", "round-robin", "--poll-interval", "60", replicas=[stays, goes]
        ) as running,
    ):
        await goes.die()
        answers = [await post(running.url) for _ in range(30)]
        assert [answer.status_code for answer in answers] == [200] * 30
        await eventually(
            running, lambda facts: [r["healthy"] for r in facts["replicas"]] == [True, False]
        )
        retries = [
            int(line.rpartition(" ")[2])
            for line in (await _get(f"{running.url}/metrics")).text.splitlines()
            if line.startswith("lb_retries_total{")
        ]
    assert sum(retries) <= WORKERS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_streams_end_and_leaves_no_process(number: signal.Signals) -> None:
    streams = Streams()
    async with (
        ScriptedReplica(streams) as replica,
        cluster("--policy", "queue-aware", replicas=[replica]) as running,
    ):
        children = running.children()
        async with open_streams(running.url, 6) as responses:
            ending = asyncio.create_task(running.end(number))
            await asyncio.sleep(0.3)
            assert not ending.done()
            streams.finish.set()
            for response in responses:
                assert (await response.aread()).endswith(b"[DONE]\n\n")
        assert await ending == 0
    assert not any(alive(child) for child in children)


async def test_a_second_signal_ends_it_at_once_and_streams_say_that_they_were_cut() -> None:
    async with (
        ScriptedReplica(Streams()) as replica,
        cluster("--policy", "queue-aware", "--grace", "600", replicas=[replica]) as running,
        open_streams(running.url, 3) as responses,
    ):
        running.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert await running.end() == 0
        for response in responses:
            text = await response.aread()
            assert b'"error"' in text
            assert b"[DONE]" not in text


async def test_when_the_supervisor_is_killed_the_others_end_by_themselves() -> None:
    async with (
        ScriptedReplica() as replica,
        cluster("--policy", "queue-aware", replicas=[replica]) as running,
    ):
        children = running.children()
        await running.end(signal.SIGKILL)
        while any(alive(child) for child in children):
            await asyncio.sleep(0.02)


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.get(url)
