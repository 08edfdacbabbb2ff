"""Who gets in with keys, who does not, and what of that replicas and logs get to see."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.lb.scrape import value
from tests.lb.scripted import Balancer, ScriptedReplica, balancer

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

MESSAGES: Any = [{"role": "user", "content": "hello"}]
OWN = "Bearer sk-alice"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("alice sk-alice\nbob sk-bob\n")
    return path


@asynccontextmanager
async def guarded(
    keys: Path | None, **settings: Any
) -> AsyncIterator[tuple[ScriptedReplica, Balancer]]:
    async with (
        ScriptedReplica(models=["m"]) as replica,
        balancer(replica.url, api_keys=keys, **settings) as lb,
    ):
        yield replica, lb


async def post(lb: Balancer, authorization: str | None, **headers: str) -> httpx.Response:
    if authorization is not None:
        headers["authorization"] = authorization
    return await lb.client.post("/v1/completions", json={"model": "m"}, headers=headers)


async def test_a_known_key_gets_in(keys: Path) -> None:
    async with guarded(keys) as (_, lb):
        responses = [await post(lb, key) for key in (OWN, "bearer  sk-bob")]
    assert [response.status_code for response in responses] == [200, 200]


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "sk-alice", "Basic sk-alice", "Bearer sk-alic", "Bearer alice"],
)
async def test_anything_else_is_a_401_as_openai_words_it(
    authorization: str | None, keys: Path
) -> None:
    async with guarded(keys) as (replica, lb):
        response = await post(lb, authorization)
        metrics = await lb.metrics()
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
    assert not replica.calls
    assert value(metrics, "lb_refusals_total", status="401", code="invalid_api_key") == 1


async def test_two_authorizations_are_none(keys: Path) -> None:
    async with guarded(keys) as (_, lb):
        headers = [("authorization", OWN), ("authorization", "Bearer sk-bob")]
        response = await lb.client.post("/v1/completions", json={"model": "m"}, headers=headers)
    assert response.status_code == 401


CREDENTIALS = [
    {"x-api-key": "sk-alice"},
    {"x-api-key": "sk-alice", "authorization": "Bearer sk-alice"},
    {"x-api-key": "sk-bob", "authorization": "Bearer sk-alice"},
    {"x-api-key": "sk-eve", "authorization": "Bearer sk-alice"},
    {"api-key": "sk-alice", "authorization": "Bearer sk-alice"},
    {"x-goog-api-key": "sk-alice", "x_api_key": "sk-alice", "authorization": "Bearer sk-alice"},
]


@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize("replica_key", [None, "sk-replica"])
async def test_of_several_credentials_none_reaches_a_replica(
    keys: Path, credentials: dict[str, str], replica_key: str | None
) -> None:
    async with guarded(keys, replica_key=replica_key) as (replica, lb):
        for path in ("/v1/messages", "/v1/chat/completions", "/rerank", "/v1/responses"):
            response = await lb.client.post(path, json={"model": "m"}, headers=credentials)
            assert response.status_code == 200
        assert (await lb.client.get("/v1/models", headers=credentials)).status_code == 200
    for call in replica.calls:
        shown = {name for name in call.headers if "key" in name or "auth" in name}
        assert shown == (set() if replica_key is None else {"authorization"})
        assert "sk-alice" not in str(call.headers)


@pytest.mark.parametrize(
    "headers",
    [
        [("x-api-key", "sk-eve")],
        [("x-api-key", "")],
        [("x-api-key", "Bearer sk-alice")],
        [("x-api-key", "sk-alice"), ("x-api-key", "sk-alice")],
        [("x-api-key", "sk-alice"), ("authorization", "Bearer sk-eve")],
        [("api-key", "sk-alice")],
    ],
)
async def test_an_x_api_key_is_checked_like_any_other(
    keys: Path, headers: list[tuple[str, str]]
) -> None:
    async with guarded(keys) as (replica, lb):
        response = await lb.client.post("/v1/messages", json={"model": "m"}, headers=headers)
    assert response.status_code == 401
    assert not replica.calls


async def test_in_place_of_what_clients_send_replicas_get_the_balancers_key() -> None:
    headers = {"x-api-key": "sk-alice", "authorization": OWN, "api-key": "sk-alice"}
    async with guarded(None, replica_key="sk-replica") as (replica, lb):
        await lb.client.post("/v1/messages", json={"model": "m"}, headers=headers)
    (call,) = replica.calls
    assert "sk-alice" not in str(call.headers)
    assert call.headers["authorization"] == "bearer sk-replica"


async def test_without_keys_an_x_api_key_is_passed_on_and_is_the_tenant(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with guarded(None, access_log=str(log)) as (replica, lb):
        for key in ("sk-a", "sk-b", "sk-a"):
            headers = {"x-api-key": key}
            await lb.client.post("/v1/messages", json={"model": "m"}, headers=headers)
    assert [call.headers["x-api-key"] for call in replica.calls] == ["sk-a", "sk-b", "sk-a"]
    tenants = [json.loads(line)["tenant"] for line in log.read_text().splitlines()]
    assert tenants[0] == tenants[2] != tenants[1]
    assert "sk-a" not in log.read_text()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1/models/m",
        "/%76%31/models",
        "/v1%2Fmodels",
        "//v1/models",
        "/openapi.json",
    ],
)
async def test_no_way_of_writing_a_path_goes_around_the_key(path: str, keys: Path) -> None:
    async with guarded(keys) as (_, lb):
        # httpx would normalise what a socket lets through.
        host, port = lb.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("expect", ["", "expect: 100-continue\r\n"])
async def test_without_a_key_no_body_is_waited_for(expect: str, keys: Path) -> None:
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n{expect}\r\n"
    async with guarded(keys) as (_, lb), asyncio.timeout(20):
        host, port = lb.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + b"{")
        answer = await reader.read()
        writer.close()
        metrics = await lb.metrics()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer
    assert value(metrics, "lb_refusals_total", status="401", code="invalid_api_key") == 1


async def test_with_a_key_a_body_is_waited_for(keys: Path) -> None:
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: {OWN}\r\n"
    head += "connection: close\r\ncontent-length: 13\r\nexpect: 100-continue\r\n\r\n"
    async with guarded(keys) as (_, lb), asyncio.timeout(20):
        host, port = lb.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'{"model":"m"}')
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_probes_and_scrapes_need_no_key(keys: Path) -> None:
    async with guarded(keys) as (_, lb):
        for path in ("/health", "/ready", "/metrics", "/health?verbose"):
            assert (await lb.client.get(path)).status_code == 200
        listed = await lb.client.get("/v1/models", headers={"authorization": OWN})
    assert [entry["id"] for entry in listed.json()["data"]] == ["m"]


async def test_the_official_client_recognises_the_refusal(keys: Path) -> None:
    async with guarded(keys) as (_, lb):
        base_url = f"{lb.url}/v1"
        async with (
            openai.AsyncOpenAI(base_url=base_url, api_key="sk-eve", max_retries=0) as eve,
            openai.AsyncOpenAI(base_url=base_url, api_key="sk-bob", max_retries=0) as bob,
        ):
            with pytest.raises(openai.AuthenticationError) as refused:
                await eve.chat.completions.create(model="m", messages=MESSAGES)
            with pytest.raises(openai.AuthenticationError):
                await eve.models.list()
            assert [model.id async for model in bob.models.list()] == ["m"]
    assert refused.value.code == "invalid_api_key"


async def test_replicas_see_neither_the_key_nor_a_tenant_that_the_client_made_up(
    keys: Path,
) -> None:
    async with guarded(keys) as (replica, lb):
        await post(lb, OWN, **{"x-tenant": "mallory", "x-other": "kept"})
    (call,) = replica.calls
    assert "sk-alice" not in str(call.headers)
    assert "x-tenant" not in call.headers
    assert call.headers["x-other"] == "kept"


@pytest.mark.parametrize("with_keys", [True, False])
async def test_replicas_get_the_key_of_the_balancer(with_keys: bool, keys: Path) -> None:
    async with guarded(keys if with_keys else None, replica_key="sk-replica") as (replica, lb):
        assert (await post(lb, OWN)).status_code == 200
    (call,) = replica.calls
    assert call.headers["authorization"] == "bearer sk-replica"  # as ScriptedReplica lowers it
    assert replica.poll_headers["authorization"] == "bearer sk-replica"


async def test_no_client_can_take_the_balancers_key_away(keys: Path) -> None:
    async with guarded(keys, replica_key="sk-replica") as (replica, lb):
        response = await post(lb, OWN, connection="keep-alive, authorization")
    assert response.status_code == 200
    assert replica.calls[0].headers["authorization"] == "bearer sk-replica"


async def test_without_keys_what_clients_send_is_passed_on() -> None:
    async with guarded(None) as (replica, lb):
        await post(lb, OWN, **{"x-tenant": "team"})
    (call,) = replica.calls
    assert call.headers["authorization"] == OWN.lower()
    assert call.headers["x-tenant"] == "team"
    assert "authorization" not in replica.poll_headers


async def test_a_changed_file_changes_who_gets_in(keys: Path) -> None:
    async with guarded(keys) as (_, lb), asyncio.timeout(20):
        keys.write_text("carol sk-carol\n")
        while (await post(lb, "Bearer sk-carol")).status_code != 200:
            await asyncio.sleep(0.05)
        assert (await post(lb, OWN)).status_code == 401


async def test_no_key_is_ever_logged_or_exported(
    keys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "access.log"
    with caplog.at_level(logging.DEBUG, logger="lb"):
        for with_keys in (keys, None):
            async with guarded(with_keys, replica_key="sk-replica", access_log=str(log)) as (
                replica,
                lb,
            ):
                for key in (OWN, "Bearer sk-eve"):
                    await post(lb, key, **{"x-tenant": "made-up"} if with_keys else {})
                    await lb.client.get("/v1/models?key=sk-query", headers={"authorization": key})
                await replica.die()
                await post(lb, OWN)
                metrics = await lb.metrics()
                health = (await lb.client.get("/health")).text
            assert "sk-" not in metrics + health
    assert "alice" in log.read_text()
    assert "made-up" not in log.read_text()
    assert "sk-" not in log.read_text() + caplog.text
