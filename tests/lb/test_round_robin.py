"""Turns: in order, by capacity, and with nothing to catch up on."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from lb.replicas.board import Board
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica
from tests.lb.fleets import (
    choose_in_turn,
    make_policy,
    make_replica,
    make_replicas,
    request,
    with_capacities,
)

capacities = st.lists(st.floats(0.1, 10), min_size=2, max_size=6)


@given(st.integers(1, 8), st.lists(st.sampled_from("mn"), max_size=60))
def test_equal_replicas_take_turns_in_order_whatever_is_asked_for(
    count: int, models: list[str]
) -> None:
    replicas = [make_replica(index, "m", "n") for index in range(count)]
    chosen = choose_in_turn(
        Fleet(replicas), replicas, make_policy("round-robin"), [request(model) for model in models]
    )
    assert chosen == [replicas[turn % count] for turn in range(len(models))]


@given(capacities, st.integers(0, 150))
def test_requests_per_capacity_never_differ_by_more_than_a_turn_of_each(
    weights: list[float], requests: int
) -> None:
    replicas = with_capacities(weights)
    chosen = choose_in_turn(
        Fleet(replicas), replicas, make_policy("round-robin"), [request()] * requests
    )
    assert_fair(replicas, [(set(replicas), replica) for replica in chosen])


@given(
    st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
    st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=1, max_size=12),
    st.integers(1, 8),
)
def test_the_same_holds_while_both_are_present_however_others_come_and_go(
    weights: list[float], memberships: list[set[int]], requests: int
) -> None:
    """So nobody starves, and who was away has no burst of requests when it is back."""
    replicas = with_capacities(weights)
    fleet, policy = Fleet(replicas), make_policy("round-robin")
    history: list[tuple[set[Replica], Replica]] = []
    for membership in memberships:
        present = [replicas[index] for index in sorted(membership)]
        chosen = choose_in_turn(fleet, present, policy, [request()] * requests)
        history += [(set(present), replica) for replica in chosen]
    assert_fair(replicas, history)


@given(capacities, capacities, st.lists(st.booleans(), max_size=200))
def test_models_on_replicas_of_their_own_do_not_disturb_each_other(
    here: list[float], there: list[float], order: list[bool]
) -> None:
    ms = [make_replica(index, "m", capacity=each) for index, each in enumerate(here)]
    ns = [make_replica(10 + index, "n", capacity=each) for index, each in enumerate(there)]
    fleet, policy = Fleet([*ms, *ns]), make_policy("round-robin")
    history: dict[str, list[tuple[set[Replica], Replica]]] = {"m": [], "n": []}
    for first in order:
        model, able = ("m", ms) if first else ("n", ns)
        (replica,) = choose_in_turn(fleet, able, policy, [request(model)])
        history[model].append((set(able), replica))
    assert_fair(ms, history["m"])
    assert_fair(ns, history["n"])


@given(st.lists(st.integers(0, 2), max_size=60))
def test_workers_take_turns_together(workers: list[int]) -> None:
    board = Board(rows=3, columns=4)
    fleets = [Fleet(make_on_board(4), board=board, index=index) for index in range(3)]
    policy = make_policy("round-robin")
    chosen = []
    for now_s, worker in enumerate(workers):
        fleet = fleets[worker]
        fleet.refresh(float(now_s))
        (replica,) = choose_in_turn(fleet, fleet.replicas, policy, [request()])
        chosen.append(replica.column)
    assert chosen == [turn % 4 for turn in range(len(workers))]


def make_on_board(count: int) -> list[Replica]:
    replicas = make_replicas(count)
    for column, replica in enumerate(replicas):
        replica.column = column
    return replicas


def assert_fair(replicas: list[Replica], history: list[tuple[set[Replica], Replica]]) -> None:
    """Over each stretch of time in which two of them are present, the bound holds."""
    for one, other in combinations(replicas, 2):
        bound = 1.001 * (1 / one.capacity + 1 / other.capacity)
        lowest = highest = lead = 0.0  # of `one`, since both were present
        for present, chosen in history:
            if not {one, other} <= present:
                lowest = highest = lead = 0.0
                continue
            lead += (chosen is one) / one.capacity - (chosen is other) / other.capacity
            lowest, highest = min(lowest, lead), max(highest, lead)
            assert highest - lowest <= bound
