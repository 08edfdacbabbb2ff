"""What the access log says of real requests."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from lb.routing.router import Admission
from tests.lb.running import started
from tests.lb.scripted import STREAM_HEAD, Call, ScriptedReplica, answer, balancer

pytestmark = pytest.mark.anyio

FIELDS = [
    *("time", "request_id", "client", "tenant", "method", "path", "model", "replica"),
    *("reason", "attempts", "status", "error", "prompt_tokens", "bytes_in", "bytes_out"),
    *("queued_ms", "added_ms", "first_byte_ms", "duration_ms"),
]


def lines(path: Path) -> list[dict[str, Any]]:
    """What was written, without what clients of the tests ask of the balancer itself."""
    read = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in read if line.get("path") not in {"/health", "/metrics"}]


async def reset_midway(call: Call) -> None:
    await call.send(STREAM_HEAD)
    await call.send_chunk(b"data: 1\n\n")
    call.reset()


async def fail(call: Call) -> None:
    await call.send(answer(b"{}", status="503 Service Unavailable"))


async def test_a_request_is_one_line_with_all_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with ScriptedReplica() as replica, balancer(replica.url, access_log=str(path)) as lb:
        started = datetime.now(UTC)
        response = await lb.client.post(
            "/v1/chat/completions?secret=query",
            json={"model": "m", "messages": "x" * 400},
            headers={"x-tenant": "team"},
        )
    (line,) = lines(path)
    assert list(line) == FIELDS
    assert abs(datetime.fromisoformat(line["time"]) - started) < timedelta(seconds=20)
    assert line["request_id"] == response.headers["x-request-id"]
    assert line["client"].startswith("127.0.0.1:")
    expected = {
        "tenant": "team",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "m",
        "replica": replica.name,
        "attempts": 1,
        "status": 200,
        "error": None,
        "bytes_in": len(response.request.content),
        "bytes_out": len(response.content),
        "queued_ms": None,
    }
    assert line | expected == line
    assert line["reason"]
    assert 90 < line["prompt_tokens"] < 130
    assert 0 < line["added_ms"] <= line["first_byte_ms"] <= line["duration_ms"] < 20_000


async def test_lines_are_there_while_the_balancer_runs(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with ScriptedReplica() as replica, balancer(replica.url, access_log=str(path)) as lb:
        await lb.post()
        async with asyncio.timeout(20):
            while not lines(path):
                await asyncio.sleep(0.05)


async def test_a_retry_is_one_line_of_two_attempts(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with (
        ScriptedReplica(fail) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url, access_log=str(path)) as lb,
    ):
        await lb.post()
    (line,) = lines(path)
    assert (line["replica"], line["attempts"], line["status"]) == (good.name, 2, 200)


async def test_a_broken_stream_has_its_status_and_the_error(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with (
        ScriptedReplica(reset_midway) as replica,
        balancer(replica.url, access_log=str(path)) as lb,
    ):
        stream = await lb.stream()
        await stream.aread()
    (line,) = lines(path)
    assert (line["status"], line["error"], line["bytes_out"]) == (200, "replica_failed", 9)


async def test_a_client_that_leaves_is_a_499(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with ScriptedReplica() as replica, balancer(replica.url, access_log=str(path)) as lb:
        replica.behaviour = replica.begin_and_hang
        stream = await lb.stream()
        await stream.aclose()
        await asyncio.wait_for(replica.left.wait(), 20)
    (line,) = lines(path)
    assert (line["status"], line["error"], line["replica"]) == (499, None, replica.name)


async def test_refusals_have_their_code_and_no_model_that_is_not_served(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with ScriptedReplica() as replica, balancer(replica.url, access_log=str(path)) as lb:
        response = await lb.post("made-up")
        await lb.client.get("/v1/models/made-up")
        host, port = lb.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"nonsense\r\n\r\n")
        await reader.read()
        writer.close()
    unknown, looked_up, nonsense = lines(path)
    assert (unknown["status"], unknown["error"]) == (404, "model_not_found")
    assert (unknown["model"], unknown["replica"], unknown["attempts"]) == (None, None, 0)
    assert unknown["bytes_out"] == len(response.content)
    assert (looked_up["method"], looked_up["status"]) == ("GET", 404)
    assert (nonsense["status"], nonsense["error"]) == (400, "bad_request")
    assert nonsense["client"].startswith("127.0.0.1:")


async def test_the_wait_for_a_place_is_told(tmp_path: Path) -> None:
    path = tmp_path / "access.log"

    async def slow(call: Call) -> None:
        await asyncio.sleep(0.3)
        await call.send(answer(call.body))

    async with (
        ScriptedReplica(slow) as replica,
        balancer(replica.url, access_log=str(path), admission=Admission(in_flight=1)) as lb,
    ):
        await asyncio.gather(lb.post(), lb.post())
    first, second = lines(path)
    assert first["queued_ms"] is None
    assert second["queued_ms"] > 100
    assert second["added_ms"] < second["queued_ms"]


async def test_workers_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    options = ("--policy", "random", "--workers", "2", "--access-log", str(path))
    async with (
        ScriptedReplica() as replica,
        started(*options, "--endpoints", replica.url) as running,
        asyncio.timeout(60),
    ):
        while not (await running.health())["replicas"][0]["healthy"]:
            await asyncio.sleep(0.02)
        for _ in range(20):  # on a connection each, so that both workers get some
            async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
                await asyncio.gather(
                    *(client.post("/v1/completions", json={"model": "m"}) for _ in range(10))
                )
        assert await running.end() == 0
    served = [line for line in lines(path) if line["status"] == 200]
    assert len({line["request_id"] for line in served}) == len(served) == 200
    assert len({line["request_id"].partition("-")[0] for line in served}) == 2


async def test_a_disk_that_is_full_fails_no_request() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url, access_log="/dev/full") as lb:
        assert [(await lb.post()).status_code for _ in range(3)] == [200] * 3
