"""Bounds, queues and refusals under more load than there are places."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import httpx
import pytest

from lb.routing.router import Admission
from tests.lb.scrape import value
from tests.lb.scripted import (
    END_OF_CHUNKS,
    STREAM_HEAD,
    Call,
    ScriptedReplica,
    answer,
    balancer,
)

pytestmark = pytest.mark.anyio


class Gate:
    """A behaviour: answer when let through; `most` is the most that ever waited at once."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.open = 0
        self.most = 0

    async def __call__(self, call: Call) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        let_through = asyncio.Event()
        await self.waiting.put(let_through)
        await let_through.wait()
        self.open -= 1
        await call.send(answer(call.body))

    async def fill(self, count: int) -> None:
        """Wait until so many are waiting at once."""
        while self.open < count:
            await asyncio.sleep(0.01)

    async def let_one_through(self) -> None:
        (await self.waiting.get()).set()


def tenant_of(call: Call) -> str:
    return call.headers.get("x-tenant", "")


async def test_no_replica_gets_more_than_its_bound_and_all_are_answered() -> None:
    gate = Gate()
    async with (
        ScriptedReplica(gate) as replica,
        balancer(replica.url, admission=Admission(in_flight=2)) as lb,
        asyncio.timeout(20),
    ):
        requests = [asyncio.create_task(lb.post(n=n)) for n in range(7)]
        await gate.fill(2)
        for _ in requests:
            await gate.let_one_through()
        statuses = [(await request).status_code for request in requests]
    assert statuses == [200] * 7
    assert gate.most == 2


async def test_all_replicas_together_get_no_more_than_the_bound_in_all() -> None:
    gate = Gate()
    async with (
        ScriptedReplica(gate) as one,
        ScriptedReplica(gate) as two,
        balancer(one.url, two.url, admission=Admission(in_flight_total=3)) as lb,
        asyncio.timeout(20),
    ):
        requests = [asyncio.create_task(lb.post(n=n)) for n in range(9)]
        await gate.fill(3)
        for _ in requests:
            await gate.let_one_through()
        statuses = [(await request).status_code for request in requests]
    assert statuses == [200] * 9
    assert gate.most == 3


async def test_models_take_turns_where_all_replicas_together_are_full() -> None:
    gate = Gate()
    async with (
        ScriptedReplica(gate, models=["a", "b"]) as replica,
        balancer(replica.url, admission=Admission(in_flight_total=1)) as lb,
        asyncio.timeout(20),
    ):
        first = asyncio.create_task(lb.post(model="a"))
        await replica.called.wait()
        rest = [asyncio.create_task(lb.post(model=model)) for model in "aaabb"]
        while await _queued(lb.client, "a") + await _queued(lb.client, "b") < len(rest):
            await asyncio.sleep(0.01)
        for _ in range(6):
            await gate.let_one_through()
        await asyncio.gather(first, *rest)
    order = "".join(json.loads(call.body)["model"] for call in replica.calls)
    assert order == "aababa"


async def test_beyond_the_queue_it_is_a_429_that_says_when_to_come_again() -> None:
    gate = Gate()
    admission = Admission(in_flight=1, queued=1)
    async with (
        ScriptedReplica(gate) as replica,
        balancer(replica.url, admission=admission) as lb,
        asyncio.timeout(20),
    ):
        first = asyncio.create_task(lb.post())
        await replica.called.wait()
        others = [asyncio.create_task(lb.post()) for _ in range(3)]
        refused = [await one for one in await _first_done(others, 2)]
        await gate.let_one_through()
        await gate.let_one_through()
        await asyncio.gather(first, *others)
    assert {response.status_code for response in refused} == {429}
    assert all(response.headers["retry-after"] == "1" for response in refused)
    assert refused[0].json()["error"]["code"] == "rate_limit_exceeded"


async def test_who_waits_too_long_gets_a_429_and_its_place_in_the_queue_is_free() -> None:
    gate = Gate()
    admission = Admission(in_flight=1, queued=1, queue_s=0.2)
    async with (
        ScriptedReplica(gate) as replica,
        balancer(replica.url, admission=admission) as lb,
        asyncio.timeout(20),
    ):
        first = asyncio.create_task(lb.post())
        await replica.called.wait()
        late = await lb.post()
        again = await lb.post()
        await gate.let_one_through()
        assert (await first).status_code == 200
    assert (late.status_code, again.status_code) == (429, 429)
    assert "in time" in late.json()["error"]["message"]
    assert len(replica.calls) == 1


async def test_a_tenant_with_many_requests_waits_for_itself() -> None:
    gate = Gate()
    async with (
        ScriptedReplica(gate) as replica,
        balancer(replica.url, admission=Admission(in_flight=1)) as lb,
        asyncio.timeout(20),
    ):
        greedy = [asyncio.create_task(_post_as(lb.client, "greedy", number)) for number in range(6)]
        await replica.called.wait()
        while len(greedy) - 1 > await _queued(lb.client):
            await asyncio.sleep(0.01)
        modest = asyncio.create_task(_post_as(lb.client, "modest", 0))
        while len(greedy) > await _queued(lb.client):
            await asyncio.sleep(0.01)
        for _ in range(7):
            await gate.let_one_through()
        await asyncio.gather(*greedy, modest)
    assert tenant_of(replica.calls[2]) == "modest"


LONG_FIRST = ["long"] + ["short"] * 6 + ["long"] * 5
IN_TURN = ["long", "short"] * 6


async def _stream(call: Call, tokens: int, end: bytes) -> None:
    await call.send(STREAM_HEAD)
    for _ in range(tokens):
        await call.send_chunk(b"data: {}" + end)
    await call.send(END_OF_CHUNKS)


async def _json(call: Call, tokens: int, counted: str, status: str = "200 OK") -> None:
    """An answer whose text speaks of other numbers of tokens."""
    said = 'a long text: "completion_tokens": 9'
    body = {"text": said * tokens, "usage": {"prompt_tokens": 9, counted: tokens}}
    await call.send(answer(json.dumps(body).encode(), status))


# What does not say how many tokens it has, costs no more than its prompt.
ANSWERS: dict[str, Callable[[Call, int], Awaitable[None]]] = {
    "stream": partial(_stream, end=b"\n\n"),
    "stream with CR LF": partial(_stream, end=b"\r\n\r\n"),
    "chat": partial(_json, counted="completion_tokens"),
    "messages": partial(_json, counted="output_tokens"),
    "embedding": partial(_json, counted="total_tokens"),
    "error": partial(_json, counted="code", status="400 Bad Request"),
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("fairness", ["requests", "tokens"])
async def test_long_answers_cost_a_tenant_turns_where_fairness_is_by_tokens(
    fairness: Literal["requests", "tokens"], kind: str
) -> None:
    """The first answer of each tenant waits for the test, so that all others are queued."""
    begin = asyncio.Event()

    async def behave(call: Call) -> None:
        await begin.wait()
        await ANSWERS[kind](call, 100 if tenant_of(call) == "long" else 1)

    async with (
        ScriptedReplica(behave) as replica,
        balancer(replica.url, admission=Admission(in_flight=1, fairness=fairness)) as lb,
        asyncio.timeout(20),
    ):
        posts = []
        for number in range(12):
            tenant = "short" if number % 2 else "long"
            posts.append(asyncio.create_task(_post_as(lb.client, tenant, number)))
            await replica.called.wait()
            while number > await _queued(lb.client):
                await asyncio.sleep(0.01)
        begin.set()
        await asyncio.gather(*posts)
    served = [tenant_of(call) for call in replica.calls]
    generated = kind not in {"embedding", "error"}
    assert served == (LONG_FIRST if generated and fairness == "tokens" else IN_TURN)


async def test_who_leaves_the_queue_is_never_sent() -> None:
    gate = Gate()
    async with (
        ScriptedReplica(gate) as replica,
        balancer(replica.url, admission=Admission(in_flight=1)) as lb,
        asyncio.timeout(20),
    ):
        first = asyncio.create_task(lb.post(n=1))
        await replica.called.wait()
        left = asyncio.create_task(lb.post(n=2))
        while await _queued(lb.client) < 1:
            await asyncio.sleep(0.01)
        left.cancel()
        while await _queued(lb.client) > 0:
            await asyncio.sleep(0.01)
        last = asyncio.create_task(lb.post(n=3))
        await gate.let_one_through()
        await gate.let_one_through()
        await asyncio.gather(first, last)
    assert [call.body for call in replica.calls] == [
        b'{"model":"m","n":1}',
        b'{"model":"m","n":3}',
    ]


async def _post_as(client: httpx.AsyncClient, tenant: str, number: int) -> httpx.Response:
    body = {"model": "m", "n": number}
    return await client.post("/v1/completions", json=body, headers={"x-tenant": tenant})


async def _queued(client: httpx.AsyncClient, model: str = "m") -> float:
    return value((await client.get("/metrics")).text, "lb_requests_queued", model=model)


async def _first_done(
    tasks: list[asyncio.Task[httpx.Response]], count: int
) -> list[asyncio.Task[httpx.Response]]:
    while sum(task.done() for task in tasks) < count:
        await asyncio.sleep(0.01)
    return [task for task in tasks if task.done()]
