"""`python -m lb --endpoints-kubernetes` as its users and their clients meet it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lb.__main__ import main
from lb.discovery.kubernetes import Service, parse_service
from tests.lb.apiserver import NAMESPACE, ApiServer, endpoint_slice, pod
from tests.lb.running import Running, started
from tests.lb.scrape import value
from tests.lb.scripted import Call, ScriptedReplica, Streams

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

IN_POD = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer(tmp_path / "account") as server, asyncio.timeout(90):
        yield server


def of(name: str, replica: ScriptedReplica, **conditions: bool) -> dict[str, Any]:
    """A slice of its own for a replica, as pod `name`."""
    port = int(replica.url.rpartition(":")[2])
    return endpoint_slice(f"slice-of-{name}", pod(name, "127.0.0.1", **conditions), http=port)


@contextlib.asynccontextmanager
async def balancing(api: ApiServer, *options: str) -> AsyncIterator[Running]:
    arguments = (
        *("--policy", "round-robin", "--poll-interval", "0.05", "--slow-start", "0"),
        *("--endpoints-kubernetes", "engines", "--service-account", str(api.folder)),
    )
    async with started(*arguments, *options, **api.environ) as running:
        yield running


async def until(running: Running, holds: Callable[[dict[str, dict[str, Any]]], bool]) -> None:
    """Wait until what /health says of the replicas, by name, is so."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                replicas = (await running.health())["replicas"]
                if holds({one["name"]: one for one in replicas}):
                    return
            await asyncio.sleep(0.02)


async def until_healthy(running: Running, *names: str) -> None:
    """Wait until these serve, and no others."""
    await until(
        running,
        lambda found: (
            {name for name, one in found.items() if one["healthy"] and not one["draining"]}
            == set(names)
        ),
    )


async def until_idle(running: Running, name: str) -> None:
    await until(running, lambda found: found[name]["in_flight"] == 0)


async def post(running: Running) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.post(f"{running.url}/v1/completions", json={"model": "m"})


async def served_by(running: Running, requests: int = 12) -> set[str]:
    return {(await post(running)).headers["x-lb-replica"] for _ in range(requests)}


async def metrics(running: Running) -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return (await client.get(f"{running.url}/metrics")).text


# How it is started.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("engines", Service("own", "engines")),
        ("engines:http", Service("own", "engines", "http")),
        ("engines:8000", Service("own", "engines", (8000,))),
        ("engines:8000,8002", Service("own", "engines", (8000, 8002))),
        ("other/engines-2:web-1", Service("other", "engines-2", "web-1")),
    ],
)
def test_a_service_may_have_a_namespace_and_a_port(text: str, expected: Service) -> None:
    assert parse_service(text, lambda: "own") == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "/engines", "own/", "a/b/c", "engines:", "Engines", "a_b", "x:70000", "a.b", "x:0"),
        *("x:1,", "x:1,0", "x:http,1"),
    ],
)
async def test_a_malformed_service_is_one_line_and_exit_code_2(
    text: str, api: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--endpoints-kubernetes", text, "--service-account", str(api.folder)]
    assert main(["--policy", "random", *arguments], api.environ) == 2
    error = capsys.readouterr().err
    assert error.startswith("lb: --endpoints-kubernetes: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ({}, {}, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set"),
        ({}, {**IN_POD, "KUBERNETES_SERVICE_PORT": "x"}, "KUBERNETES_SERVICE_PORT='x' are no addr"),
        ({"token": None}, IN_POD, "token cannot be read: No such file or directory"),
        ({"token": " \n"}, IN_POD, "token is empty"),
        ({"ca.crt": None}, IN_POD, "ca.crt cannot be read: No such file or directory"),
        ({"ca.crt": "x"}, IN_POD, "ca.crt holds no certificates"),
        ({"namespace": None}, IN_POD, "namespace cannot be read: No such file or directory"),
    ],
)
async def test_outside_of_a_pod_it_is_one_line_and_exit_code_2(
    files: dict[str, str | None],
    environ: dict[str, str],
    expected: str,
    api: ApiServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, content in files.items():
        (api.folder / name).unlink()
        if content is not None:
            (api.folder / name).write_text(content)
    arguments = ["--endpoints-kubernetes", "engines", "--service-account", str(api.folder)]
    assert main(["--policy", "random", *arguments], environ) == 2
    error = capsys.readouterr().err
    assert error.startswith("lb: ")
    assert expected in error
    assert error.count("\n") == 1


async def test_a_namespace_that_is_given_needs_no_file(api: ApiServer) -> None:
    (api.folder / "namespace").unlink()
    async with ScriptedReplica() as replica:
        api.put(of("pod-1", replica))
        service = f"{NAMESPACE}/engines:http"
        async with balancing(api, "--endpoints-kubernetes", service) as running:
            assert await served_by(running) == {"pod-1"}


# What clients notice of pods that come and go: nothing.


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_replica_goes_by_its_pods_name(api: ApiServer, workers: int) -> None:
    async with ScriptedReplica() as one, ScriptedReplica() as two:
        api.put(of("engine-5d9f-abcde", one), of("engine-5d9f-fghij", two))
        async with balancing(api, "--workers", str(workers)) as running:
            await until_healthy(running, "engine-5d9f-abcde", "engine-5d9f-fghij")
            assert await served_by(running) == {"engine-5d9f-abcde", "engine-5d9f-fghij"}
            urls = {one["url"] for one in (await running.health())["replicas"]}
            text = await metrics(running)
    assert urls == {one.url, two.url}
    for name in ("engine-5d9f-abcde", "engine-5d9f-fghij"):
        assert value(text, "lb_requests_total", replica=name, status="200") > 0
        assert value(text, "lb_replica_healthy", replica=name) == 1
    assert one.name not in text


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_pod_that_terminates_finishes_its_streams_and_gets_nothing_new(
    api: ApiServer, workers: int
) -> None:
    streams = Streams()
    async with ScriptedReplica(streams) as old, ScriptedReplica() as new:
        api.put(of("old", old))
        async with (
            balancing(api, "--workers", str(workers)) as running,
            httpx.AsyncClient(trust_env=False, timeout=20) as client,
        ):
            await until_healthy(running, "old")
            body = {"model": "m", "stream": True}
            async with client.stream(
                "POST", f"{running.url}/v1/completions", json=body
            ) as response:
                api.put(of("new", new), of("old", old, ready=False, terminating=True))
                await until_healthy(running, "new")
                assert await served_by(running) == {"new"}
                api.delete("slice-of-old")
                streams.finish.set()
                assert (await response.aread()).endswith(b"[DONE]\n\n")
            await until(running, lambda found: set(found) == {"new"})
    assert len(old.calls) == 1


async def test_a_rolling_update_loses_no_request_while_watches_break(api: ApiServer) -> None:
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.01)
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async def send() -> None:
        while not over.is_set():
            statuses.append((await post(running)).status_code)

    over = asyncio.Event()
    statuses: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        pods = {
            name: await stack.enter_async_context(ScriptedReplica(slow)) for name in ("a-1", "a-2")
        }
        api.put(*(of(name, replica) for name, replica in pods.items()))
        running = await stack.enter_async_context(balancing(api))
        await until_healthy(running, "a-1", "a-2")
        clients = [asyncio.create_task(send()) for _ in range(4)]
        for old, new in (("a-1", "b-1"), ("a-2", "b-2")):
            pods[new] = await stack.enter_async_context(ScriptedReplica(slow))
            api.put_and_cut(of(new, pods[new]))
            await until_healthy(running, *pods)
            api.end_watches()
            replica = pods.pop(old)
            api.put(of(old, replica, ready=False, terminating=True))
            await until_healthy(running, *pods)
            await until_idle(running, old)
            await replica.die()
            api.delete(f"slice-of-{old}")
        over.set()
        await asyncio.gather(*clients)
        # Alone: in step with other clients, turns may fall on one replica time and again.
        assert await served_by(running) == {"b-1", "b-2"}
    assert len(statuses) > 20
    assert set(statuses) == {200}


async def test_without_a_ready_endpoint_it_is_not_ready_and_says_503(api: ApiServer) -> None:
    async with ScriptedReplica() as replica:
        api.put(of("pod-1", replica))
        async with balancing(api) as running, httpx.AsyncClient(trust_env=False) as client:
            await until_healthy(running, "pod-1")
            api.put(of("pod-1", replica, ready=False))
            await until_healthy(running)
            assert (await client.get(f"{running.url}/ready")).status_code == 503
            assert (await post(running)).status_code == 503
            api.put(of("pod-1", replica))
            await until_healthy(running, "pod-1")
            assert (await client.get(f"{running.url}/ready")).status_code == 200


@pytest.mark.parametrize("workers", [1, 2])
async def test_another_pod_at_the_same_address_is_another_replica(
    api: ApiServer, workers: int
) -> None:
    async with ScriptedReplica() as replica:
        api.put(of("old", replica))
        async with balancing(api, "--workers", str(workers)) as running:
            await until_healthy(running, "old")
            assert await served_by(running) == {"old"}
            api.put(of("new", replica))
            api.delete("slice-of-old")
            await until_healthy(running, "new")
            assert await served_by(running) == {"new"}
            await until(running, lambda found: set(found) == {"new"})
            text = await metrics(running)
    assert value(text, "lb_requests_total", replica="new") == 12
    assert 'replica="old"' not in text


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_pod_that_comes_back_elsewhere_keeps_its_series(
    api: ApiServer, workers: int
) -> None:
    async with ScriptedReplica() as before, ScriptedReplica() as after:
        api.put(of("engine-0", before))
        async with balancing(api, "--workers", str(workers)) as running:
            await until_healthy(running, "engine-0")
            assert await served_by(running) == {"engine-0"}
            api.put(of("engine-0", after))
            await until(running, lambda found: found["engine-0"]["url"] == after.url)
            await until_healthy(running, "engine-0")
            assert await served_by(running) == {"engine-0"}
            # The one that is drained is forgotten after a while.
            async with asyncio.timeout(20):
                while len((await running.health())["replicas"]) == 2:
                    await asyncio.sleep(0.05)
            text = await metrics(running)
    assert value(text, "lb_requests_total", replica="engine-0") == 24
    assert value(text, "lb_requests_in_flight", replica="engine-0") == 0


async def test_workers_go_on_when_control_plane_and_api_server_are_lost(api: ApiServer) -> None:
    async with ScriptedReplica() as replica:
        api.put(of("pod-1", replica))
        async with balancing(api, "--workers", "2") as running:
            await until_healthy(running, "pod-1")
            async with asyncio.timeout(20):
                while value(await metrics(running), "lb_breaker_state", replica="pod-1") < 2:
                    await asyncio.sleep(0.02)  # a worker does not know it yet
            await api.go_away()
            control = running.children()[0]
            os.kill(control, signal.SIGKILL)
            async with asyncio.timeout(20):
                while not any("replicas stay as they are" in line for line in running.log):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            assert await served_by(running) == {"pod-1"}
            await api.come_back()
            await until_healthy(running, "pod-1")
            assert await served_by(running) == {"pod-1"}


async def test_it_logs_what_it_finds_and_neither_tokens_nor_each_request(api: ApiServer) -> None:
    api.rotate("a-secret-of-the-cluster")
    async with ScriptedReplica() as replica:
        api.put(of("pod-1", replica))
        async with balancing(api, "--log-level", "debug") as running:
            await until_healthy(running, "pod-1")
    log = "".join(running.log)
    assert "replicas: pod-1\n" in log
    assert "a-secret" not in log
    assert "HTTP Request" not in log
