"""The widespread rule, with its flaw."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica
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


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0.1, 10)), min_size=1, max_size=8))
def test_it_takes_the_shortest_queue_per_capacity_and_the_first_on_ties(
    states: list[tuple[int, float]],
) -> None:
    replicas = with_capacities(capacity for _, capacity in states)
    for replica, (waiting, _) in zip(replicas, states, strict=True):
        poll(replica, waiting, at_s=0)
    depths = [waiting / capacity for waiting, capacity in states]
    replica, reason = make_policy("queue-depth")(replicas, request(), 1.0)
    assert replica is replicas[depths.index(min(depths))]
    assert reason == ("tie" if depths.count(min(depths)) > 1 else "least")


@given(st.lists(st.integers(0, 9), min_size=2, max_size=8), st.integers(1, 100))
def test_a_burst_between_two_polls_goes_to_one_replica(waiting: list[int], burst: int) -> None:
    replicas = make_replicas(len(waiting))
    for replica, depth in zip(replicas, waiting, strict=True):
        poll(replica, depth, at_s=0)
    chosen = choose_in_turn(
        Fleet(replicas), replicas, make_policy("queue-depth"), [request()] * burst
    )
    assert len(set(chosen)) == 1


@given(
    st.sampled_from(["missing", "never polled", "stale", "frozen"]),
    st.integers(0, 100),
    st.lists(st.integers(0, 50), min_size=1, max_size=5),
    seeds,
)
def test_a_queue_that_is_not_known_counts_like_the_mean_of_the_others(
    fault: str, waiting: int, others: list[int], seed: int
) -> None:
    """So it is taken when nothing is known to be better, whatever it said once."""
    different, *rest = replicas = make_replicas(1 + len(others))
    if fault == "missing":
        different.observe(None, 0, 10.0)
    elif fault == "stale":
        poll(different, waiting, at_s=5.0)
    elif fault == "frozen":
        for at_s in (5.0, 6.0, 7.0, 8.0, 9.0, 10.0):
            poll(different, 1 + waiting, at_s)
    for replica, depth in zip(rest, others, strict=True):
        poll(replica, depth, at_s=10.0)
    chosen = make_policy("queue-depth", seed)(replicas, request(), 10.5).replica
    assert (chosen is different) == (len(set(others)) == 1)


def test_an_idle_engine_is_known_to_have_no_queue() -> None:
    idle, busy = replicas = make_replicas(2)
    for second in range(10):
        poll(idle, 0, at_s=second)
        poll(busy, 3, at_s=second, generated=second)
    assert make_policy("queue-depth")(replicas, request(), 9.5).replica is idle


@given(st.integers(1, 4), seeds)
def test_where_no_queue_is_known_one_is_drawn_by_capacity(factor: int, seed: int) -> None:
    small, large = replicas = [make_replica(0), make_replica(1, capacity=factor)]
    policy = make_policy("queue-depth", seed)
    chosen: Counter[Replica] = Counter()
    for _ in range(400 * (1 + factor)):
        replica, reason = policy(replicas, request(), 0.0)
        assert reason == "unpolled"
        chosen[replica] += 1
    assert 0.6 * factor < chosen[large] / chosen[small] < 1.6 * factor
