"""By what a replica was chosen, and what becomes of those that failed."""

from __future__ import annotations

import pytest

from lb.policies import POLICIES
from lb.replicas.breaker import FAILURES, FIRST_OPEN_S
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica
from tests.lb.fleets import make_replicas, make_router, request


def fail(replica: Replica, now_s: float = 0.0) -> None:
    for _ in range(FAILURES):
        replica.breaker.failed(replica.breaker.sent(now_s), now_s)


def test_one_replica_is_chosen_without_asking_the_policy() -> None:
    (alone,) = replicas = make_replicas(1)
    assert make_router(Fleet(replicas), "queue-aware").choose(request(), 0.0) == (alone, "only")


def test_another_one_is_chosen_for_a_retry() -> None:
    one, other = replicas = make_replicas(2)
    router = make_router(Fleet(replicas), "least-outstanding")
    assert router.choose_other(request(), {one}, 0.0) == (other, "retry")
    other.draining = True
    assert make_router(Fleet(replicas), "random").choose_other(request(), {one}, 0.0) is None


@pytest.mark.parametrize("name", POLICIES)
def test_a_replica_that_fails_gets_nothing_until_it_may_try(name: str) -> None:
    bad, *_ = replicas = make_replicas(3)
    router = make_router(Fleet(replicas), name)
    fail(bad)
    for key in range(50):
        choice = router.choose(request(key=key), 0.9 * FIRST_OPEN_S)
        assert choice is not None
        assert choice.replica is not bad


@pytest.mark.parametrize("name", sorted(POLICIES.keys() - {"queue-depth"}))
def test_one_trial_at_a_time_goes_to_a_replica_that_failed(name: str) -> None:
    bad, *_ = replicas = make_replicas(3)
    fleet = Fleet(replicas)
    router = make_router(fleet, name)
    fail(bad)
    trials = 0
    for key in range(0, 2**32, 2**24):
        arrival = request(key=key)
        choice = router.choose(arrival, FIRST_OPEN_S)
        assert choice is not None
        choice.replica.breaker.sent(FIRST_OPEN_S)
        fleet.begin(choice.replica, arrival).end()
        trials += choice.replica is bad
    assert trials == 1


@pytest.mark.parametrize("name", POLICIES)
def test_where_all_have_failed_all_are_tried(name: str) -> None:
    replicas = make_replicas(3)
    for replica in replicas:
        fail(replica)
    choice = make_router(Fleet(replicas), name).choose(request(key=1), 0.0)
    assert choice is not None
    assert choice.reason == "last-resort"


@pytest.mark.parametrize("name", POLICIES)
def test_a_full_replica_gets_nothing_and_where_all_are_full_nobody_is_chosen(name: str) -> None:
    one, other = replicas = make_replicas(2)
    router = make_router(Fleet(replicas), name, in_flight=3)
    one.in_flight = 3
    for key in range(20):
        assert router.choose(request(key=key), 0.0) == (other, "only")
    other.in_flight = 3
    assert router.choose(request(), 0.0) is None
