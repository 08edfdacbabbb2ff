"""What the balancer has to say on Anthropic's paths, it says as Anthropic's API does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from lb.http.downstream import Limits
from tests.lb.scripted import STREAM_HEAD, Call, ScriptedReplica, balancer

pytestmark = pytest.mark.anyio

MESSAGE: Any = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/messages"


def error_of(response: httpx.Response) -> dict[str, str]:
    body = response.json()
    assert body.keys() == {"type", "error"}
    assert body["type"] == "error"
    error: dict[str, str] = body["error"]
    assert error.keys() == {"type", "message"}
    return error


@pytest.mark.parametrize("path", [PATH, f"{PATH}/count_tokens", f"{PATH}?beta=true"])
async def test_refusals_have_anthropics_form(path: str) -> None:
    limits = Limits(body_bytes=1000)
    async with ScriptedReplica() as replica, balancer(replica.url, limits=limits) as lb:
        unknown = await lb.client.post(path, json=MESSAGE | {"model": "gpt"})
        broken = await lb.client.post(path, content=b"{")
        large = await lb.client.post(path, content=b"x" * 2000)
        mistaken = await lb.client.get(path)
        unserved = await lb.client.get(f"{PATH}/batches")
        await replica.die()
        await lb.until(replica.url, healthy=False)
        away = await lb.client.post(path, json=MESSAGE)
    kinds = [
        (each.status_code, error_of(each)["type"])
        for each in (unknown, broken, large, mistaken, unserved, away)
    ]
    assert kinds == [
        (404, "not_found_error"),
        (400, "invalid_request_error"),
        (413, "request_too_large"),
        (405, "invalid_request_error"),
        (404, "not_found_error"),
        (503, "overloaded_error"),
    ]
    assert "Known models: m" in error_of(unknown)["message"]


async def test_who_has_no_key_is_told_so_in_anthropics_form(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice sk-alice\n")
    async with ScriptedReplica() as replica, balancer(replica.url, api_keys=keys) as lb:
        response = await lb.client.post(PATH, json=MESSAGE, headers={"x-api-key": "sk-eve"})
    assert (response.status_code, error_of(response)["type"]) == (401, "authentication_error")


async def test_a_replica_that_gives_no_whole_answer_is_an_api_error() -> None:
    async def break_off(call: Call) -> None:
        call.reset()

    async with ScriptedReplica(break_off) as replica, balancer(replica.url) as lb:
        response = await lb.client.post(PATH, json=MESSAGE)
    assert (response.status_code, error_of(response)["type"]) == (502, "api_error")


async def test_a_stream_that_breaks_ends_with_anthropics_error_event() -> None:
    begun = b'event: message_start\ndata: {"type": "message_start"}\n\n'

    async def break_off(call: Call) -> None:
        await call.send(STREAM_HEAD)
        await call.send_chunk(begun + b"event: content_block_delta\nda")
        await release.wait()
        call.reset()

    release = asyncio.Event()
    async with ScriptedReplica(break_off) as replica, balancer(replica.url) as lb:
        request = lb.client.build_request("POST", PATH, json=MESSAGE | {"stream": True})
        response = await lb.client.send(request, stream=True)
        release.set()
        body = await response.aread()
    *_, last, end = body.split(b"\n\n")
    assert body.startswith(begun)
    assert end == b""
    event, data = last.split(b"\n")
    assert event == b"event: error"
    said = json.loads(data.removeprefix(b"data: "))
    assert (said["type"], said["error"]["type"]) == ("error", "api_error")
    assert said["error"]["message"].startswith("Replica ")
    assert b"message_stop" not in body


async def test_other_paths_keep_to_openais_form() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        response = await lb.client.post("/v1/chat/completions", json={"model": "gpt"})
    assert response.json()["error"]["code"] == "model_not_found"
