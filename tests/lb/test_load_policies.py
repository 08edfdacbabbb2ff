"""Policies that look at what this balancer has in flight: the fewest, or the better of two."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lb.replicas.replica import Replica
from tests.lb.fleets import make_policy, make_replica, make_replicas, request, with_capacities

seeds = st.integers(0, 2**32)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0.1, 10)), min_size=1, max_size=8), seeds)
def test_least_outstanding_takes_the_fewest_per_capacity(
    states: list[tuple[int, float]], seed: int
) -> None:
    replicas = with_capacities(capacity for _, capacity in states)
    for replica, (in_flight, _) in zip(replicas, states, strict=True):
        replica.in_flight = in_flight
    loads = {one: (one.in_flight + 1) / one.capacity for one in replicas}
    replica, reason = make_policy("least-outstanding", seed)(replicas, request(), 0.0)
    assert loads[replica] == min(loads.values())
    ties = list(loads.values()).count(min(loads.values()))
    assert reason == ("tie" if ties > 1 else "least")


@given(st.lists(st.integers(0, 50), min_size=3, max_size=8, unique=True), seeds)
def test_power_of_two_never_takes_the_most_loaded(loads: list[int], seed: int) -> None:
    replicas = make_replicas(len(loads))
    for replica, load in zip(replicas, loads, strict=True):
        replica.in_flight = load
    policy = make_policy("power-of-two", seed)
    chosen = {policy(replicas, request(), 0.0).replica.in_flight for _ in range(50)}
    assert max(loads) not in chosen
    assert len(chosen) > 1


@given(st.integers(1, 20), seeds)
def test_power_of_two_looks_at_large_replicas_more_often(factor: int, seed: int) -> None:
    """Among many equally loaded small ones a large one gets its share."""
    large, *small = replicas = [make_replica(capacity=factor), *make_replicas(21)[1:]]
    large.in_flight = 10 * factor + factor - 1  # with one more, as loaded as the others
    for replica in small:
        replica.in_flight = 10
    policy = make_policy("power-of-two", seed)
    chosen: Counter[Replica] = Counter()
    for _ in range(1000):
        chosen[policy(replicas, request(), 0.0).replica] += 1
    # Drawn first or second; when it was drawn, half the time the tie is its own.
    share = factor / (factor + 20)
    drawn = share + (1 - share) * factor / (factor + 19)
    assert abs(chosen[large] / 1000 - drawn / 2) < 0.09
