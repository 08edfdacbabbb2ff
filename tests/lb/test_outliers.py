"""Replicas that refuse at once: they attract no load, and clients' faults eject none of them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from lb.http.http1 import chunk
from lb.policies import POLICIES
from lb.replicas.outliers import SUSPICIOUS
from lb.routing.router import Admission
from tests.lb.scrape import value
from tests.lb.scripted import (
    END_OF_CHUNKS,
    STREAM_HEAD,
    Balancer,
    Behaviour,
    Call,
    ScriptedReplica,
    answer,
    balancer,
)

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

REQUESTS = 60


def refusing(status: str) -> Behaviour:
    async def refuse(call: Call) -> None:
        await call.send(answer(b'{"error": {}}', status=status))

    return refuse


async def work(call: Call) -> None:
    await asyncio.sleep(0.2)
    await call.send(answer(b"{}"))


async def judge(call: Call) -> None:
    """Refuse what is wrong, as every replica does."""
    wrong = "wrong" in json.loads(call.body)
    await (refusing("400 Bad Request") if wrong else work)(call)


async def send_many(lb: Balancer, requests: int = REQUESTS, gap_s: float = 0.01) -> list[int]:
    """Statuses of requests that come one after the other, and do not wait for each other."""

    async def post(number: int) -> int:
        await asyncio.sleep(number * gap_s)
        return (await lb.post(user=f"user {number}", messages=f"{number}")).status_code

    return list(await asyncio.gather(*(post(number) for number in range(requests))))


@pytest.mark.parametrize("policy", POLICIES)
async def test_no_policy_is_drawn_to_a_replica_that_refuses(policy: str) -> None:
    async with (
        ScriptedReplica(refusing("401 Unauthorized")) as bad,
        ScriptedReplica(work) as one,
        ScriptedReplica(work) as two,
        balancer(bad.url, one.url, two.url, policy=policy) as lb,
    ):
        statuses = await send_many(lb)
        metrics = await lb.metrics()
    assert len(bad.calls) <= REQUESTS / 3
    # Who had been sent there before it was found, and no more than the budget allows elsewhere.
    assert Counter(statuses)[401] <= REQUESTS / 10
    assert value(metrics, "lb_ejections_total", replica=bad.name, model="m") >= 1


@pytest.mark.parametrize(
    "status",
    [
        *("307 Temporary Redirect", "400 Bad Request", "404 Not Found", "418 I'm a Teapot"),
        *("429 Too Many Requests", "501 Not Implemented", "507 Insufficient Storage"),
        *("529 Overloaded", "500 Internal Server Error", "503 Service Unavailable"),
    ],
)
async def test_whatever_it_fails_with_a_fast_one_gets_no_more_than_its_share(status: str) -> None:
    async with (
        ScriptedReplica(refusing(status)) as bad,
        ScriptedReplica(work) as good,
        balancer(bad.url, good.url, policy="queue-aware") as lb,
    ):
        await send_many(lb)
    assert len(bad.calls) < REQUESTS / 2


@pytest.mark.parametrize(
    "body",
    [
        answer(b'{"error": {"message": "no"}}'),
        STREAM_HEAD + chunk(b'data: {"error": "no"}\n\n') + END_OF_CHUNKS,
        STREAM_HEAD + END_OF_CHUNKS,
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
async def test_a_fast_one_whose_answers_are_errors_gets_no_more_than_its_share(
    body: bytes,
) -> None:
    async def fail(call: Call) -> None:
        await call.send(body)

    async with (
        ScriptedReplica(fail) as bad,
        ScriptedReplica(work) as good,
        balancer(bad.url, good.url, policy="least-outstanding") as lb,
    ):
        await send_many(lb)
    assert len(bad.calls) < REQUESTS / 2


async def test_where_most_refuse_the_one_that_accepts_gets_the_requests() -> None:
    async with (
        ScriptedReplica(refusing("401 Unauthorized")) as bad,
        ScriptedReplica(refusing("401 Unauthorized")) as worse,
        ScriptedReplica(work) as good,
        balancer(bad.url, worse.url, good.url, policy="queue-aware") as lb,
    ):
        await send_many(lb)
    assert len(bad.calls) + len(worse.calls) < REQUESTS / 2


async def test_a_full_replica_that_works_is_waited_for() -> None:
    async with (
        ScriptedReplica(refusing("401 Unauthorized")) as bad,
        ScriptedReplica(work) as good,
        balancer(bad.url, good.url, policy="queue-aware", admission=Admission(in_flight=4)) as lb,
        asyncio.timeout(30),
    ):
        statuses = await send_many(lb, 40, gap_s=0)
    # What is refused while nobody can be asked may be the clients' fault for all it knows.
    assert Counter(statuses)[401] <= 20


async def test_a_replica_is_judged_by_model() -> None:
    async def lacks_an_adapter(call: Call) -> None:
        missing = json.loads(call.body)["model"] == "adapter"
        await (refusing("404 Not Found") if missing else work)(call)

    models = ["base", "adapter"]
    async with (
        ScriptedReplica(lacks_an_adapter, models=models) as bad,
        ScriptedReplica(work, models=models) as good,
        balancer(bad.url, good.url) as lb,
    ):
        statuses = [(await lb.post("adapter")).status_code for _ in range(10)]
        await asyncio.gather(*(lb.post("base") for _ in range(10)))
    assert statuses[2 * SUSPICIOUS :] == [200] * (10 - 2 * SUSPICIOUS)
    base = [call for call in bad.calls if json.loads(call.body)["model"] == "base"]
    assert len(base) >= 3
    assert len(good.calls) >= 10


@pytest.mark.parametrize("policy", ["round-robin", "queue-aware"])
async def test_a_clients_fault_is_the_clients(policy: str) -> None:
    """However many there are, replicas that refuse alike go on, and little is tried twice."""
    async with (
        ScriptedReplica(judge) as one,
        ScriptedReplica(judge) as two,
        balancer(one.url, two.url, policy=policy) as lb,
    ):
        wrong = [(await lb.post(wrong=True)).status_code for _ in range(100)]
        right = await asyncio.gather(*(lb.post() for _ in range(10)))
        metrics = await lb.metrics()
    assert wrong == [400] * 100
    assert [response.status_code for response in right] == [200] * 10
    assert value(metrics, "lb_ejections_total") == 0
    assert value(metrics, "lb_retries_total") <= 100 / SUSPICIOUS
    calls = [sum(b"wrong" not in call.body for call in each.calls) for each in (one, two)]
    assert calls == [5, 5]


async def test_a_clients_fault_is_the_clients_in_whatever_words() -> None:
    """Of two versions, one may say 400 and the other 422."""

    def judging(status: str) -> Behaviour:
        async def judge(call: Call) -> None:
            await (refusing(status) if b"wrong" in call.body else work)(call)

        return judge

    async with (
        ScriptedReplica(judging("400 Bad Request")) as one,
        ScriptedReplica(judging("422 Unprocessable Entity")) as two,
        balancer(one.url, two.url) as lb,
    ):
        wrong = {(await lb.post(wrong=True)).status_code for _ in range(100)}
        metrics = await lb.metrics()
    assert wrong == {400, 422}
    assert value(metrics, "lb_retries_total") <= 100 / SUSPICIOUS


async def test_an_older_version_loses_only_the_api_that_it_lacks() -> None:
    async def lacks_an_api(call: Call) -> None:
        missing = call.target == "/v1/messages"
        await (refusing("404 Not Found") if missing else work)(call)

    async with (
        ScriptedReplica(lacks_an_api) as old,
        ScriptedReplica(work) as new,
        balancer(old.url, new.url) as lb,
    ):

        async def messages() -> int:
            return (await lb.client.post("/v1/messages", json={"model": "m"})).status_code

        statuses = []
        for _ in range(2 * SUSPICIOUS):
            statuses.append(await messages())
            await asyncio.gather(*(lb.post() for _ in range(4)))
        chats = [sum(call.target != "/v1/messages" for call in each.calls) for each in (old, new)]
    assert Counter(statuses)[404] < SUSPICIOUS
    assert min(chats) >= 8 * SUSPICIOUS / 3


async def test_the_only_replica_is_never_given_up() -> None:
    async with (
        ScriptedReplica(refusing("404 Not Found")) as replica,
        balancer(replica.url, policy="queue-aware") as lb,
    ):
        statuses = [(await lb.post()).status_code for _ in range(10)]
        replica.behaviour = work
        later = (await lb.post()).status_code
    assert (statuses, later) == ([404] * 10, 200)


async def test_what_is_refused_is_passed_on_where_no_other_works() -> None:
    async with (
        ScriptedReplica(refusing("400 Bad Request")) as strict,
        ScriptedReplica(refusing("503 Service Unavailable")) as broken,
        balancer(strict.url, broken.url, policy="queue-aware") as lb,
    ):
        for _ in range(10):  # until the other one is left alone
            await lb.post()
        statuses = [(await lb.post()).status_code for _ in range(20)]
        strict.behaviour = work
        later = [(await lb.post()).status_code for _ in range(4)]
    assert statuses == [400] * 20
    assert later == [200] * 4


async def test_one_that_accepts_again_gets_its_share_again() -> None:
    async with (
        ScriptedReplica(refusing("401 Unauthorized")) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url, slow_start_s=0) as lb,
        asyncio.timeout(30),
    ):
        for _ in range(2 * SUSPICIOUS):
            await lb.post()
        bad.behaviour = good.behaviour
        before = len(bad.calls)
        while len(bad.calls) == before:
            await lb.post()
            await asyncio.sleep(0.05)
        bad.calls.clear()
        assert {(await lb.post()).status_code for _ in range(10)} == {200}
    assert len(bad.calls) == 5
