"""What every policy promises, as properties, through the router."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.http.api_errors import ApiError
from lb.policies import POLICIES
from lb.policies.affinity import key_of
from lb.policies.choice import Choice, Reason
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica
from tests.lb.fleets import (
    keep_busy,
    make_policy,
    make_replica,
    make_replicas,
    make_router,
    poll,
    request,
    with_capacities,
)

PLACES = 100
seeds = st.integers(0, 2**32)
keys = st.none() | st.integers(0, 2**32 - 1)
names = st.sampled_from(sorted(POLICIES))
# queue-depth looks at nothing but the latest poll. Between two of them it sends everything
# to one replica, by design: the bench is to show what that costs.
loaded_evenly = st.sampled_from(sorted(POLICIES.keys() - {"queue-depth"}))


def fail(replica: Replica, at_s: float) -> None:
    """Open the replica's breaker."""
    while not replica.breaker.open:
        replica.breaker.failed(replica.breaker.sent(at_s), at_s)


def eject(replica: Replica, model: str, at_s: float) -> None:
    service = request(model).service
    replica.acceptance.answered(service, True, at_s, trial=False)
    replica.acceptance.suspend(service, at_s)
    assert replica.acceptance.compared(service, False, at_s)


@st.composite
def replicas_in_any_state(draw: st.DrawFn) -> list[Replica]:
    replicas = []
    for index in range(draw(st.integers(1, 6))):
        models = draw(st.sets(st.sampled_from("mn"), min_size=1))
        replica = make_replica(index, *models, capacity=draw(st.floats(0.1, 10)))
        replica.in_flight = draw(st.integers(0, PLACES))
        replica.prompt_tokens = draw(st.integers(0, 10_000)) if replica.in_flight else 0
        replica.last_turn = draw(st.integers(0, 2**40))
        if draw(st.booleans()):
            poll(
                replica, draw(st.integers(0, 1000)), draw(st.floats(-10, 0)), draw(st.floats(0, 9))
            )
        if draw(st.booleans()):
            fail(replica, at_s=draw(st.floats(-3, 0)))
        if draw(st.booleans()):
            eject(replica, "m", at_s=draw(st.floats(-3, 0)))
        replica.healthy = draw(st.booleans())
        replica.draining = draw(st.booleans())
        replicas.append(replica)
    return replicas


def best(able: list[Replica], model: str) -> list[Replica]:
    """Those with a place of the trusted ones or, if there are none of these, of all."""
    service = request(model).service
    trusted = [
        one for one in able if one.breaker.allows(0.0) and one.acceptance.allows(service, 0.0)
    ]
    return [one for one in trusted or able if one.in_flight < PLACES]


def assert_one_of(choice: Choice | None, replicas: list[Replica]) -> None:
    assert (choice is None) == (not replicas)
    assert choice is None or choice.replica in replicas


@given(names, replicas_in_any_state(), st.sampled_from("mn"), keys, seeds)
def test_only_replicas_that_can_take_the_request_are_chosen_and_trusted_ones_first(
    name: str, replicas: list[Replica], model: str, key: int | None, seed: int
) -> None:
    router = make_router(Fleet(replicas), name, seed, in_flight=PLACES)
    arrival = request(model, key=key)
    serving = [one for one in replicas if one.healthy and not one.draining and model in one.models]
    if not serving:
        with pytest.raises(ApiError):
            router.choose(arrival, 0.0)
        return
    choice = router.choose(arrival, 0.0)
    assert_one_of(choice, best(serving, model))
    if choice is not None:
        assert choice.reason in get_args(Reason)
        other = router.choose_other(arrival, {choice.replica}, 0.0)
        assert_one_of(other, best([one for one in serving if one is not choice.replica], model))


@given(names, replicas_in_any_state(), keys, seeds)
def test_choosing_changes_nothing_about_the_replicas(
    name: str, replicas: list[Replica], key: int | None, seed: int
) -> None:
    def state() -> list[dict[str, object]]:
        return [deepcopy(vars(replica)) for replica in replicas]

    before = state()
    make_policy(name, seed)(replicas, request(key=key), 0.0)
    assert state() == before


@given(names, replicas_in_any_state(), st.lists(keys, max_size=20), seeds)
def test_the_same_seed_chooses_the_same(
    name: str, replicas: list[Replica], arrivals: list[int | None], seed: int
) -> None:
    one, other = make_policy(name, seed), make_policy(name, seed)
    for key in arrivals:
        assert one(replicas, request(key=key), 0.0) == other(replicas, request(key=key), 0.0)


@given(loaded_evenly, st.integers(2, 5), st.integers(1, 8), seeds)
def test_under_load_nobody_starves_and_who_returns_is_served_again(
    name: str, count: int, depth: int, seed: int
) -> None:
    """Fairly: at least half of an even share while present."""
    replicas = make_replicas(count)
    fleet, rng = Fleet(replicas), Random(seed)
    router = make_router(fleet, name, seed)
    gone = rng.choice(replicas)
    for away in (False, True, False):
        gone.draining = away
        fleet.changed(gone)
        present = [one for one in replicas if not one.draining]
        chosen = keep_busy(fleet, router, rng, 100 * len(present), depth * len(present))
        assert chosen.keys() <= set(present)
        assert min(chosen[one] for one in present) > 50


@given(loaded_evenly, st.lists(st.integers(1, 4), min_size=2, max_size=4), seeds)
def test_under_load_requests_are_in_proportion_to_capacity(
    name: str, capacities: list[int], seed: int
) -> None:
    replicas = with_capacities(capacities)
    fleet = Fleet(replicas)
    router = make_router(fleet, name, seed)
    for number in range(150 * sum(capacities)):
        arrival = request(key=key_of(b"%d" % number))
        choice = router.choose(arrival, 0.0)
        assert choice is not None
        fleet.begin(choice.replica, arrival)
    for replica in replicas:
        assert replica.in_flight / replica.capacity == pytest.approx(150, rel=0.4)


@given(
    loaded_evenly,
    st.sampled_from(["missing", "stale", "frozen"]),
    st.integers(2, 5),
    st.integers(0, 1000),
    st.integers(0, 100),
    seeds,
)
def test_readings_that_tell_nothing_neither_attract_nor_repel(
    name: str, fault: str, count: int, waiting: int, running: int, seed: int
) -> None:
    different, *rest = replicas = make_replicas(count)
    fleet, rng = Fleet(replicas), Random(seed)
    router = make_router(fleet, name, seed)
    for second in range(5):
        for replica in rest:
            poll(replica, 0, at_s=second, generated=100 * second)
        if fault == "missing":
            different.observe(None, 0, second)
        elif fault == "frozen" or second == 0:
            poll(different, waiting, at_s=second, running=running, generated=7)
    chosen = keep_busy(fleet, router, rng, 100 * count, 4 * count, now_s=4.5)
    assert 50 < chosen[different] < 200


@given(
    st.sampled_from(["random", "least-outstanding", "power-of-two", "queue-aware"]),
    st.integers(2, 8),
    seeds,
)
def test_balancers_that_see_the_same_do_not_all_choose_the_same(
    name: str, count: int, seed: int
) -> None:
    """As after a common start, or a common poll: all idle, and each has one request."""
    chosen: Counter[Replica] = Counter()
    replicas = make_replicas(count)
    for balancer in range(40 * count):
        chosen[make_policy(name, seed + balancer)(replicas, request(), 0.0).replica] += 1
    assert max(chosen.values()) < 2 * 40
    assert len(chosen) == count
