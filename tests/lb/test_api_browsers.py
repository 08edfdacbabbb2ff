"""Pages of other origins: what browsers ask beforehand, and what pages may read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lb.scripted import Call, ScriptedReplica, balancer

pytestmark = pytest.mark.anyio

ORIGIN = "http://page.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}
ALLOWED = "access-control-allow-origin"


async def allow(call: Call) -> None:
    """As vLLM answers with --allowed-origins."""
    allowed = ORIGIN if call.headers.get("origin") == ORIGIN else ""
    head = f"{ALLOWED}: {allowed}\r\n" if allowed else ""
    status = "200 OK" if allowed else "400 Bad Request"
    await call.send(f"HTTP/1.1 {status}\r\n{head}content-length: 0\r\n\r\n".encode())


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/responses/r1", "/v1/models", "/rerank"]
)
@pytest.mark.parametrize("with_keys", [True, False])
async def test_replicas_decide_from_where_requests_may_come(
    path: str, with_keys: bool, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice sk-alice\n")
    settings: dict[str, Any] = {"api_keys": keys} if with_keys else {}
    async with (
        ScriptedReplica(allow, models=["a"]) as replica,
        ScriptedReplica(allow, models=["b"]) as other,
        balancer(replica.url, other.url, **settings) as lb,
    ):
        yes = await lb.client.options(path, headers=PREFLIGHT)
        no = await lb.client.options(path, headers=PREFLIGHT | {"origin": "http://other.example"})
    assert (yes.status_code, yes.headers[ALLOWED]) == (200, ORIGIN)
    assert (no.status_code, no.headers.get(ALLOWED)) == (400, None)
    calls = replica.calls + other.calls
    assert {call.method for call in calls} == {"OPTIONS"}
    assert calls[0].headers["access-control-request-headers"] == "authorization,content-type"


async def test_with_keys_only_what_a_browser_asks_beforehand_needs_none(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice sk-alice\n")
    async with ScriptedReplica(allow) as replica, balancer(replica.url, api_keys=keys) as lb:
        response = await lb.client.options("/v1/chat/completions", headers={"origin": ORIGIN})
        request = await lb.client.post("/v1/completions", json={"model": "m"}, headers=PREFLIGHT)
    assert (response.status_code, request.status_code) == (401, 401)
    assert not replica.calls


async def test_pages_may_read_models_and_errors(tmp_path: Path) -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        answers = [
            await lb.client.get("/v1/models"),
            await lb.client.get("/v1/models/m"),
            await lb.client.get("/v1/models/none"),
            await lb.post(model="none"),
            await lb.client.post("/sleep"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 404, 404]
    assert [answer.headers.get_list(ALLOWED) for answer in answers] == [["*"]] * 5


async def test_of_replicas_answers_pages_may_read_what_the_replicas_say() -> None:
    async with ScriptedReplica(allow) as replica, balancer(replica.url) as lb:
        response = await lb.client.post(
            "/v1/completions", json={"model": "m"}, headers={"origin": ORIGIN}
        )
    assert response.headers.get_list(ALLOWED) == [ORIGIN]
