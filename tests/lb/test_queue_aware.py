"""Least outstanding work, and what polls tell of the work of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.replicas.fleet import Fleet
from lb.replicas.replica import EngineGauges, Replica
from tests.lb.fleets import (
    choose_in_turn,
    make_policy,
    make_replica,
    make_replicas,
    poll,
    request,
    with_capacities,
)

seeds = st.integers(0, 2**32)
counts = st.integers(1, 8)


def choose(replicas: list[Replica], seed: int = 1, now_s: float = 0.0) -> Replica:
    return make_policy("queue-aware", seed)(replicas, request(), now_s).replica


# Own work


@given(counts, st.lists(st.integers(0, 5000), max_size=60), seeds)
def test_simultaneous_arrivals_leave_no_two_replicas_further_apart_than_one_request(
    count: int, prompts: list[int], seed: int
) -> None:
    replicas = make_replicas(count)
    arrivals = [request(prompt_tokens=each) for each in prompts]
    choose_in_turn(Fleet(replicas), replicas, make_policy("queue-aware", seed), arrivals)
    work = [replica.prompt_tokens + 512 * replica.in_flight for replica in replicas]
    assert max(work) - min(work) <= max(prompts, default=0) + 512


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), seeds)
def test_work_is_in_proportion_to_capacity(capacities: list[int], seed: int) -> None:
    replicas = with_capacities(capacities)
    arrivals = [request()] * 10 * sum(capacities)
    choose_in_turn(Fleet(replicas), replicas, make_policy("queue-aware", seed), arrivals)
    for replica in replicas:
        assert abs(replica.in_flight - 10 * replica.capacity) <= replica.capacity


def test_without_metrics_it_is_least_outstanding() -> None:
    one, two = replicas = make_replicas(2)
    for replica in replicas:
        replica.observe(None, 0, 0.0)
    Fleet(replicas).begin(one, request())
    assert choose(replicas) is two


def test_ties_are_broken_at_random() -> None:
    replicas = make_replicas(4)
    assert {choose(replicas, seed) for seed in range(100)} == set(replicas)


# Work of others


@given(st.integers(0, 100), st.integers(0, 100), seeds)
def test_a_replica_that_others_keep_busy_gets_less(waiting: int, running: int, seed: int) -> None:
    busy, free = replicas = make_replicas(2)
    for second in range(10):
        poll(busy, waiting, at_s=second, running=1 + running, generated=second)
    Fleet(replicas).begin(free, request())  # worth less than what others have there
    foreign = waiting + running > 0
    assert (choose(replicas, seed, now_s=9.5) is free) == foreign


@given(st.integers(1, 50))
def test_a_single_reading_weighs_little_and_its_weight_fades(others: int) -> None:
    replica = make_replica()
    poll(replica, 0, at_s=0, running=others, generated=0)
    assert replica.foreign == pytest.approx(others / 5)
    for second in range(1, 11):
        poll(replica, 0, at_s=second, generated=second)
    assert replica.foreign < 0.11 * others / 5


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 5))
def test_own_requests_are_not_taken_for_those_of_others(
    waiting: int, running: int, on_their_way: int
) -> None:
    replica = make_replica()
    fleet = Fleet([replica])
    for _ in range(waiting + running + on_their_way):
        fleet.begin(replica, request())
    poll(replica, waiting, at_s=0, running=running, generated=1)
    assert replica.foreign == 0


@given(st.integers(1, 50), st.booleans())
def test_nor_are_those_that_end_or_begin_while_it_is_polled(count: int, ends: bool) -> None:
    replica = make_replica()
    fleet = Fleet([replica])
    flights = [fleet.begin(replica, request()) for _ in range(count if ends else 0)]
    before = replica.in_flight
    for flight in flights:
        flight.end()
    if not ends:
        for _ in range(count):
            fleet.begin(replica, request())
    replica.observe(EngineGauges(waiting=0, running=count, generated=1), before, now_s=0)
    assert replica.foreign == 0


@given(st.integers(1, 1000), st.floats(3.1, 1e6), seeds)
def test_metrics_older_than_three_polls_do_not_count(others: int, age_s: float, seed: int) -> None:
    one, two = replicas = make_replicas(2)
    poll(one, others, at_s=0)
    Fleet(replicas).begin(two, request())
    assert choose(replicas, seed, now_s=age_s) is one


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_what_an_idle_engine_repeats_is_forgotten(waiting: int, running: int) -> None:
    """Its requests were aborted: polls go on and say what it said when it last ran."""
    replica = make_replica()
    for second in range(20):  # others are really there
        poll(replica, waiting, at_s=second, running=running, generated=second)
    there = replica.foreign
    for second in range(20, 50):
        poll(replica, waiting, at_s=second, running=running, generated=19)
    assert replica.foreign < 0.002 * there


@given(st.integers(1, 1000), seeds)
def test_a_constant_queue_of_an_engine_that_works_is_believed(waiting: int, seed: int) -> None:
    busy, idle = replicas = make_replicas(2)
    for second in range(10):
        poll(busy, waiting, at_s=second, generated=100 * second)
        assert choose(replicas, seed, now_s=second) is idle
