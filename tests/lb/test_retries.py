"""A request is sent twice at most, wherever and however it fails, and every try is counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lb.routing.exchange import Timeouts
from tests.lb.scrape import value
from tests.lb.scripted import (
    STREAM_HEAD,
    Balancer,
    Behaviour,
    Call,
    ScriptedReplica,
    answer,
    balancer,
)

pytestmark = pytest.mark.anyio


async def close(call: Call) -> None:
    call.writer.close()


async def reset(call: Call) -> None:
    call.reset()


async def work_then_close(call: Call) -> None:
    await asyncio.sleep(0.6)
    call.writer.close()


async def half_a_head(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-")
    call.writer.close()


async def head_alone(call: Call) -> None:
    await call.send(STREAM_HEAD)
    call.writer.close()


async def interim_alone(call: Call) -> None:
    await call.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
    call.writer.close()


async def unavailable(call: Call) -> None:
    await call.send(answer(b"{}", status="503 Service Unavailable"))


async def unavailable_and_broken(call: Call) -> None:
    """The answer by which it goes elsewhere is itself no whole one."""
    head = b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n"
    await call.send(head + b"2\r\n{}\r\nnonsense")


async def hang(call: Call) -> None:
    with contextlib.suppress(ConnectionError):
        await call.reader.read()


FAILING: Sequence[Behaviour] = [
    *(close, reset, work_then_close, half_a_head, head_alone, interim_alone, unavailable, hang)
]


def poisoned(behaviour: Behaviour) -> Behaviour:
    """Only what asks for it is treated so; all else is answered."""

    async def post(call: Call) -> None:
        if b"poison" in call.body:
            await behaviour(call)
        else:
            await call.send(answer(b"{}"))

    return post


async def warm(lb: Balancer, requests: int) -> None:
    """Have connections kept to every replica."""
    for _ in range(requests):
        assert (await lb.post()).status_code == 200


def poison(replicas: Sequence[ScriptedReplica]) -> int:
    return sum(b"poison" in call.body for replica in replicas for call in replica.calls)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("failing", FAILING)
async def test_a_request_that_always_fails_is_sent_twice_at_most_and_counted(
    failing: Behaviour, count: int, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with contextlib.AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(ScriptedReplica(poisoned(failing)))
            for _ in range(count)
        ]
        async with balancer(
            *(replica.url for replica in replicas),
            poll_interval_s=60,
            timeouts=Timeouts(first_byte_s=0.5 if failing is hang else 20),
            access_log=str(log),
        ) as lb:
            warmed = 2 * count
            await warm(lb, warmed)
            response = await lb.post(user="poison")
            metrics = await lb.metrics()
        tries = poison(replicas)
    assert response.status_code in {502, 503}
    assert tries in ({1, 2} if count == 1 else {2})
    assert value(metrics, "lb_choices_total") == warmed + tries
    assert value(metrics, "lb_retries_total") == tries - 1
    assert value(metrics, "lb_upstream_errors_total") == (0 if failing is unavailable else tries)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["attempts"] for entry in entries if entry["status"] >= 500] == [tries]


async def test_where_many_die_at_once_the_one_that_is_left_answers() -> None:
    async with contextlib.AsyncExitStack() as stack:
        *dead, alive = [await stack.enter_async_context(ScriptedReplica()) for _ in range(6)]
        urls = [replica.url for replica in (*dead, alive)]
        async with balancer(*urls, poll_interval_s=60) as lb:
            for replica in dead:
                await replica.die()
            response = await lb.post()
            metrics = await lb.metrics()
    assert response.headers["x-lb-replica"] == alive.name
    assert value(metrics, "lb_upstream_errors_total", kind="connect") == len(dead)
    assert value(metrics, "lb_choices_total") == len(dead) + 1


async def test_a_replica_that_worked_before_it_closed_is_taken_for_failed() -> None:
    async with (
        ScriptedReplica(poisoned(work_then_close)) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url, poll_interval_s=60) as lb,
    ):
        await warm(lb, 4)
        response = await lb.post(user="poison")
        metrics = await lb.metrics()
    assert response.headers["x-lb-replica"] == good.name
    assert poison([bad, good]) == 2
    assert value(metrics, "lb_upstream_errors_total", replica=bad.name, kind="lost") == 1


async def test_an_unavailable_replica_whose_answer_breaks_is_passed_over_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def unavailable_and_broken(call: Call) -> None:
        head = b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n"
        await call.send(head + b"2\r\n{}\r\nnonsense")

    async with (
        ScriptedReplica(unavailable_and_broken) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url, poll_interval_s=60) as lb,
    ):
        response = await lb.post()
        replicas = await lb.replicas()
    assert response.headers["x-lb-replica"] == good.name
    assert (len(bad.calls), len(good.calls)) == (1, 1)
    assert [facts["in_flight"] for facts in replicas.values()] == [0, 0]
    assert not [record for record in caplog.records if record.exc_info]


async def test_retries_of_lost_connections_are_no_more_than_the_budget() -> None:
    """Kept connections, of which polls make new ones all the time, are no way around it."""
    requests = 60
    async with (
        ScriptedReplica(reset) as one,
        ScriptedReplica(reset) as two,
        balancer(one.url, two.url, poll_interval_s=0.02) as lb,
    ):
        for _ in range(requests):
            await lb.post()
            await asyncio.sleep(0.01)
    assert len(one.calls) + len(two.calls) <= requests + 10 + 0.2 * requests


async def test_what_no_replica_got_is_tried_elsewhere_when_no_retries_are_left() -> None:
    async with (
        ScriptedReplica(reset, models=["n"]) as bad,
        ScriptedReplica(reset, models=["n"]) as worse,
        ScriptedReplica() as one,
        ScriptedReplica() as two,
        balancer(bad.url, worse.url, one.url, two.url, poll_interval_s=60) as lb,
    ):
        retries = -1.0
        while (now := value(await lb.metrics(), "lb_retries_total")) > retries:
            retries = now
            await lb.post("n")
        await one.die()
        assert [(await lb.post()).status_code for _ in range(2)] == [200, 200]
        metrics = await lb.metrics()
    assert value(metrics, "lb_upstream_errors_total", replica=one.name, kind="connect") == 1


async def test_a_replica_that_dies_under_a_request_on_a_kept_connection_costs_none() -> None:
    """Lost on a connection that was closing, refused on a new one, answered by another."""

    async def die_at_the_second(call: Call) -> None:
        if len(bad.calls) == 1:
            await call.send(answer(b"{}"))
        else:
            await bad.die()

    async with (
        ScriptedReplica(die_at_the_second) as bad,
        ScriptedReplica() as good,
        balancer(bad.url, good.url, poll_interval_s=60) as lb,
    ):
        assert [(await lb.post()).status_code for _ in range(6)] == [200] * 6
        metrics = await lb.metrics()
    assert value(metrics, "lb_choices_total") == 8
    for kind in ("idle", "connect"):
        assert value(metrics, "lb_upstream_errors_total", replica=bad.name, kind=kind) == 1
