"""The balancer in front of real vLLM: what engines themselves say of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest

from bench.config.topology import load_topology
from bench.environments.local import LocalEnvironment
from bench.environments.local.host import read_engines, state_file
from bench.environments.local.install import ensure_engine
from bench.progress import make_progress
from bench.records import Replica
from tests.lb.running import Running, started

pytestmark = [pytest.mark.engines, pytest.mark.anyio]

ROOT = Path(__file__).parents[2]
TOPOLOGY = load_topology()
SEQUENCES = TOPOLOGY.engine.max_num_seqs
# Ports of their own, so that engines which somebody has kept are not in the way.
FIRST_PORT = 8400
MODEL = "tiny-llama"
LONG, SHORT = 1500, 32


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, machine: None) -> Path:
    """A cache of its own, with the engine's packages of the project's."""
    folder = tmp_path_factory.mktemp("cache")
    venv = ensure_engine(ROOT / ".cache", make_progress())
    (folder / "engine-venv").symlink_to(venv.folder)
    return folder


@pytest.fixture(scope="module")
def replicas(cache: Path, worker_id: str) -> Iterator[tuple[Replica, ...]]:
    worker = 0 if worker_id == "master" else int(worker_id.removeprefix("gw"))
    first_port = FIRST_PORT + 10 * worker
    engine = replace(TOPOLOGY.engine, kv_cache_mib=64, first_port=first_port)
    environment = LocalEnvironment(
        cache, replace(TOPOLOGY, engine=engine), make_progress(), keep=False
    )
    try:
        yield environment.start(TOPOLOGY.select_models([MODEL], "cpu", "local"))
    finally:
        environment.stop()


@contextlib.asynccontextmanager
async def in_front(replicas: tuple[Replica, ...], *options: str) -> AsyncIterator[Running]:
    urls = ",".join(replica.url for replica in replicas)
    async with (
        started("--policy", "queue-aware", "--endpoints", urls, *options) as running,
        asyncio.timeout(120),
    ):
        while len([r for r in await health(running) if r["healthy"]]) < len(replicas):
            await asyncio.sleep(0.05)
        yield running


async def health(running: Running) -> list[dict[str, object]]:
    try:
        facts: list[dict[str, object]] = (await running.health())["replicas"]
    except httpx.HTTPError:
        return []
    return facts


def body(tokens: int, *, stream: bool) -> dict[str, object]:
    return {
        "model": MODEL,
        "prompt": "one two three",
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": stream,
    }


async def engines_say(replicas: tuple[Replica, ...], metric: str) -> float:
    """The sum of a metric over the replicas, from their own /metrics."""
    pattern = re.compile(rf"^vllm:{metric}\{{[^}}]*\}} (\S+)$", re.MULTILINE)
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        texts = [(await client.get(f"{replica.url}/metrics")).text for replica in replicas]
    return sum(float(value) for text in texts for value in pattern.findall(text))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_when_clients_leave_the_engines_abort_their_requests(
    replicas: tuple[Replica, ...], stream: bool, workers: str
) -> None:
    async with (
        in_front(replicas, "--workers", workers) as running,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        url = f"{running.url}/v1/completions"
        generated = 0.0
        asked = [
            asyncio.create_task(client.post(url, json=body(LONG, stream=stream)))
            for _ in range(2 * SEQUENCES)
        ]
        while await engines_say(replicas, "num_requests_(?:running|waiting)") < len(asked):
            await asyncio.sleep(0.02)
        for one in asked:
            one.cancel()
        before = await engines_say(replicas, "generation_tokens_total")
        while await running.in_flight() != [0, 0]:
            await asyncio.sleep(0.01)
        # The gauge of running requests is of no use here: vLLM sets it when it runs a step,
        # and there is none after the last abort. Tokens are counted as they come.
        while before < (now := await engines_say(replicas, "generation_tokens_total")):
            generated, before = generated + now - before, now
            await asyncio.sleep(0.3)
    # All that was asked for is many times as much.
    assert generated < len(asked) * LONG / 4


async def test_under_three_times_the_load_accepted_requests_keep_their_latency(
    replicas: tuple[Replica, ...],
) -> None:
    places = SEQUENCES * len(replicas)
    refused: list[int] = []

    async def durations(running: Running, clients: int) -> list[float]:
        """Of answers to so many clients that ask again and again for a while."""
        took: list[float] = []

        async def ask(client: httpx.AsyncClient) -> None:
            end_s = time.monotonic() + 1.0
            while (began_s := time.monotonic()) < end_s:
                response = await client.post(
                    f"{running.url}/v1/completions", json=body(SHORT, stream=False)
                )
                if response.status_code == 200:
                    took.append(time.monotonic() - began_s)
                else:
                    refused.append(response.status_code)
                    assert response.headers["retry-after"] == "1"
                    await asyncio.sleep(0.05)

        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as client:
            await asyncio.gather(*(ask(client) for _ in range(clients)))
        return took

    bounds = ("--max-in-flight", str(SEQUENCES), "--max-queued", "1", "--queue-timeout", "1")
    alone, crowded, unbounded = [], [], []
    async with in_front(replicas, *bounds) as bounded, in_front(replicas) as open_to_all:
        await durations(bounded, places)  # warm
        # In turn, since the engines' own speed changes within seconds.
        for _ in range(5):
            alone += await durations(bounded, places)
            assert not refused
            crowded += await durations(bounded, 3 * places)
            assert set(refused) == {429}
            refused.clear()
            unbounded += await durations(open_to_all, 3 * places)
    assert not refused
    assert len(crowded) > len(alone) / 2  # and it serves as much as before
    # Who waits for a place waits for one answer at most, where without bounds all wait for two.
    assert median(crowded) < 0.8 * median(unbounded)


async def test_an_engine_that_stops_running_loses_its_requests_to_another_until_it_runs_again(
    cache: Path, replicas: tuple[Replica, ...]
) -> None:
    name = replicas[0].url.removeprefix("http://")
    stopped = processes(cache, replicas[0])
    async with (
        in_front(replicas, "--first-byte-timeout", "2", "--slow-start", "0") as running,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):

        async def ask() -> tuple[int, str]:
            url = f"{running.url}/v1/completions"
            response = await client.post(url, json=body(SHORT, stream=False))
            return response.status_code, response.headers["x-lb-replica"]

        for process in stopped:
            process.suspend()
        try:
            answers = await asyncio.gather(*(ask() for _ in range(8)))
        finally:
            for process in stopped:
                process.resume()
        assert {status for status, _ in answers} == {200}
        assert name not in {replica for _, replica in answers}
        while name not in {replica for _, replica in await asyncio.gather(ask(), ask(), ask())}:
            await asyncio.sleep(0.2)


def processes(cache: Path, replica: Replica) -> list[psutil.Process]:
    engines = read_engines(state_file(cache))
    assert engines is not None
    running = next(one for one in engines.replicas if one.spec.name == replica.name)
    server = psutil.Process(running.process.pid)
    return [server, *server.children(recursive=True)]


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/completions", {"prompt": "one", "max_tokens": 2}, 200),  # without a model
        ("POST", "/tokenize", {"model": MODEL, "prompt": "one two"}, 200),
        ("POST", "/detokenize", {"model": MODEL, "tokens": [5, 6]}, 200),
        ("POST", "/v1/completions", {"model": MODEL, "max_tokens": -1, "prompt": "one"}, 400),
        ("HEAD", "/v1/models", None, 200),
        ("GET", "/v1/responses/resp_none", None, 404),
        ("POST", "/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/a"}, 404),
    ],
)
async def test_what_vllm_serves_is_passed_on_or_refused(
    replicas: tuple[Replica, ...],
    method: str,
    path: str,
    content: dict[str, object] | None,
    status: int,
) -> None:
    async with (
        in_front(replicas) as running,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        response = await client.request(method, f"{running.url}{path}", json=content)
        assert response.status_code == status, response.text
        assert (method == "HEAD") == (not response.content)


async def test_a_preflight_is_answered_as_the_engines_do(replicas: tuple[Replica, ...]) -> None:
    asks = {"origin": "https://a.example", "access-control-request-method": "POST"}
    async with (
        in_front(replicas) as running,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        url = "/v1/chat/completions"
        seen, direct = [
            await client.options(f"{base}{url}", headers=asks)
            for base in (running.url, replicas[0].url)
        ]
    assert seen.status_code == direct.status_code == 200
    allowed = "access-control-allow-methods"
    assert seen.headers[allowed] == direct.headers[allowed]


# The last one, since it leaves an engine dead.
async def test_a_replica_killed_under_load_costs_only_the_streams_that_it_had_begun(
    cache: Path, replicas: tuple[Replica, ...]
) -> None:
    name = replicas[0].url.removeprefix("http://")
    victim = processes(cache, replicas[0])
    over = asyncio.Event()
    statuses: list[int] = []

    async def keep_asking(client: httpx.AsyncClient, url: str) -> None:
        while not over.is_set():
            response = await client.post(url, json=body(SHORT, stream=False))
            statuses.append(response.status_code)

    async def read_stream(client: httpx.AsyncClient, url: str) -> tuple[str, str]:
        async with client.stream("POST", url, json=body(LONG // 3, stream=True)) as response:
            begun.append(response.headers["x-lb-replica"])
            return response.headers["x-lb-replica"], (await response.aread()).decode()

    begun: list[str] = []
    async with (
        in_front(replicas, "--workers", "2") as running,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        url = f"{running.url}/v1/completions"
        streams = [asyncio.create_task(read_stream(client, url)) for _ in range(4)]
        while len(begun) < len(streams):
            await asyncio.sleep(0.01)
        askers = [asyncio.create_task(keep_asking(client, url)) for _ in range(8)]
        while len(statuses) < 8:
            await asyncio.sleep(0.01)
        for process in victim:
            process.kill()
        served = len(statuses)
        while len(statuses) < served + 40:
            await asyncio.sleep(0.01)
        over.set()
        await asyncio.gather(*askers)
        ended = [await stream for stream in streams]
        assert await running.in_flight() == [0, 0]
    assert set(statuses) == {200}
    assert {replica for replica, _ in ended} == {name, replicas[1].url.removeprefix("http://")}
    for replica, text in ended:
        if replica == name:
            assert '"error"' in text
            assert "[DONE]" not in text
        else:
            assert '"error"' not in text
            assert text.rstrip().endswith("[DONE]")
