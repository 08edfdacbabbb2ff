"""Responses that a replica has stored are found where they are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.lb.scrape import value
from tests.lb.scripted import Balancer, Call, ScriptedReplica, answer, balancer

pytestmark = pytest.mark.anyio

PATH = "/v1/responses/resp_1"


class Store:
    """Answers as vLLM does with VLLM_ENABLE_RESPONSES_API_STORE: it knows its own responses."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)

    async def __call__(self, call: Call) -> None:
        named = call.target.partition("?")[0].removeprefix("/v1/responses").strip("/").split("/")[0]
        if call.method == "POST" and not named:
            named = json.loads(call.body).get("previous_response_id", "")
        if named and named not in self.known:
            body = b'{"error": {"message": "Response with id not found.", "code": 404}}'
            await call.send(answer(body, "404 Not Found"))
        else:
            await call.send(answer(json.dumps({"id": named, "status": "completed"}).encode()))


@contextlib.asynccontextmanager
async def stores(
    *known: tuple[str, ...], **settings: Any
) -> AsyncIterator[tuple[list[ScriptedReplica], Balancer]]:
    async with contextlib.AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(ScriptedReplica(Store(*each), scripted=[PATH]))
            for each in known
        ]
        urls = [replica.url for replica in replicas]
        yield replicas, await stack.enter_async_context(balancer(*urls, **settings))


@pytest.mark.parametrize("home", [0, 1, 2])
async def test_a_response_is_got_from_the_replica_that_has_it(home: int) -> None:
    known = [("resp_1",) if index == home else () for index in range(3)]
    async with stores(*known) as (replicas, lb):
        for method, path in (("GET", PATH), ("POST", f"{PATH}/cancel"), ("DELETE", PATH)):
            response = await lb.client.request(method, path)
            assert (response.status_code, response.json()["id"]) == (200, "resp_1")
            assert response.headers["x-lb-replica"] == replicas[home].name
        await lb.until(replicas[0].url, in_flight=0)
        metrics = await lb.metrics()
    assert {call.method for call in replicas[home].calls} == {"GET", "POST", "DELETE"}
    assert value(metrics, "lb_requests_total", status="200", replica=replicas[home].name) == 3
    assert value(metrics, "lb_requests_total") == 3
    assert value(metrics, "lb_requests_in_flight") == 0


async def test_one_that_nobody_has_is_a_404_in_the_replicas_words() -> None:
    async with stores((), (), ()) as (replicas, lb):
        response = await lb.client.get(PATH)
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "Response with id not found."
    assert [len(replica.calls) for replica in replicas] == [1, 1, 1]


@pytest.mark.parametrize("policy", ["round-robin", "queue-aware"])
async def test_a_conversation_goes_on_where_its_last_response_is(policy: str) -> None:
    async with stores((), ("resp_1",), (), policy=policy) as (replicas, lb):
        for _ in range(4):
            response = await lb.client.post(
                "/v1/responses", json={"model": "m", "previous_response_id": "resp_1"}
            )
            assert (response.status_code, response.json()["id"]) == (200, "resp_1")
            assert response.headers["x-lb-replica"] == replicas[1].name
        fresh = await lb.client.post("/v1/responses", json={"model": "m"})
    assert fresh.status_code == 200
    assert sum(len(replica.calls) for replica in replicas) <= 4 * 3 + 1


async def test_a_404_of_any_other_request_is_passed_on_at_once() -> None:
    async def unknown(call: Call) -> None:
        await call.send(answer(b"{}", "404 Not Found"))

    async with (
        ScriptedReplica(unknown) as one,
        ScriptedReplica(unknown) as two,
        balancer(one.url, two.url) as lb,
    ):
        assert (await lb.post()).status_code == 404
    assert len(one.calls) + len(two.calls) == 1


async def test_while_a_replica_cannot_be_asked_nobody_says_that_a_response_is_not_there() -> None:
    async with stores((), ("resp_1",)) as ((empty, full), lb):
        full.health = "503 Service Unavailable"
        await lb.until(full.url, healthy=False)
        response = await lb.client.get(PATH)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (503, "no_healthy_replica")
        assert full.name in error["message"]
        assert empty.name not in error["message"]
        full.health = "200 OK"
        await lb.until(full.url, healthy=True)
        assert (await lb.client.get(PATH)).status_code == 200


async def test_a_replica_that_is_gone_is_a_503_as_long_as_it_is_listed() -> None:
    async with stores((), ("resp_1",)) as ((_, full), lb):
        await full.die()
        response = await lb.client.get(PATH)
    assert response.status_code in {502, 503}


async def test_without_any_replica_that_answers_it_is_a_503() -> None:
    async with ScriptedReplica() as replica:
        await replica.die()
        async with balancer(replica.url) as lb:
            response = await lb.client.get(PATH)
    assert response.status_code == 503
