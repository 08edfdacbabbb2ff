"""A replica that comes up gets its share little by little."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.replicas.fleet import Fleet
from lb.routing.router import Admission, Router
from tests.lb.fleets import make_policy, make_replica, request


def test_it_starts_with_a_tenth_and_ends_with_all_of_its_weight() -> None:
    replica = make_replica(capacity=4.0)
    replica.healthy_since_s = 100.0
    shares = []
    for elapsed_s in (0, 1, 5, 9.99, 10, 1000):
        replica.warm_up(100.0 + elapsed_s, slow_start_s=10.0)
        shares.append(replica.capacity)
    assert shares == pytest.approx([0.4, 0.4, 2.0, 3.6, 4.0, 4.0])


def test_who_was_healthy_from_the_start_and_who_needs_no_time_are_warm() -> None:
    replica = make_replica()
    replica.warm_up(0.0, slow_start_s=10.0)
    assert replica.capacity == 1.0
    replica.healthy_since_s = 0.0
    replica.warm_up(0.0, slow_start_s=0.0)
    assert replica.capacity == 1.0


def test_it_begins_again_after_trouble() -> None:
    replica = make_replica()
    replica.mark_unhealthy("fell over")
    replica.mark_healthy({"m": {}}, since_s=50.0)
    replica.warm_up(51.0, slow_start_s=10.0)
    assert replica.capacity == pytest.approx(0.1)
    replica.mark_healthy({"m": {}}, since_s=60.0)  # a poll of one that is well
    replica.warm_up(60.0, slow_start_s=10.0)
    assert replica.capacity == 1.0


@given(st.floats(0, 1e9), st.floats(0, 1e6), st.floats(0.001, 1e3))
def test_the_share_never_falls_and_stays_within_bounds(
    since_s: float, elapsed_s: float, slow_start_s: float
) -> None:
    replica = make_replica()
    replica.healthy_since_s = since_s
    replica.warm_up(since_s + elapsed_s, slow_start_s)
    early = replica.capacity
    replica.warm_up(math.nextafter(since_s + elapsed_s, math.inf) + 0.1, slow_start_s)
    assert 0.1 <= early <= replica.capacity <= 1.0


@pytest.mark.parametrize("policy", ["round-robin", "random", "least-outstanding", "queue-aware"])
def test_policies_heed_it(policy: str) -> None:
    warm, new = make_replica(0), make_replica(1)
    new.healthy_since_s = 0.0
    fleet = Fleet([warm, new], slow_start_s=10.0)
    router = Router(fleet, make_policy(policy), Admission())
    shares = []
    for now_s in (0.0, 5.0, 10.0):
        fleet.warm_up(now_s)
        chosen = 0
        flights = []
        for _ in range(200):
            choice = router.choose(request(), now_s)
            assert choice is not None
            replica = choice.replica
            chosen += replica is new
            flights.append(fleet.begin(replica, request()))
        for flight in flights:
            flight.end()
        shares.append(chosen / 200)
    assert shares[0] == pytest.approx(1 / 11, abs=0.07)
    assert shares[1] == pytest.approx(1 / 3, abs=0.1)
    assert shares[2] == pytest.approx(1 / 2, abs=0.1)
