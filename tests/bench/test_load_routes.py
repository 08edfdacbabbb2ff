"""Routes: balancers in turn, a stratified share bypassed them, the same for both arms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.plan.arrivals import Poisson
from bench.load.plan.routes import bypassing, routes
from bench.load.plan.schedule import plan_open_loop
from bench.load.plan.workload import Fixed, Workload
from bench.records import Replica, Schedule

SHARES = st.floats(0, 1, exclude_max=True)
SEEDS = st.integers(0, 2**63)

REPLICAS = {"a": Replica("a", "a-1", "http://a-1"), "b": Replica("b", "b-0", "http://b-0")}


def plan(seed: int = 1) -> Schedule:
    return plan_open_loop(
        seed=seed,
        rates_rps={"a": 4.0, "b": 8.0},
        workload=Workload(prompt=Fixed(32), output=Fixed(8)),
        arrival=Poisson(load=1),
        duration_s=20.0,
    )


@given(SEEDS, SHARES)
def test_a_schedule_always_has_the_same_requests_bypass(seed: int, share: float) -> None:
    assert bypassing(plan(seed), share) == bypassing(plan(seed), share)


@given(SEEDS, SHARES)
def test_the_share_that_bypasses_is_that_of_each_model(seed: int, share: float) -> None:
    schedule = plan(seed)
    bypassed = bypassing(schedule, share)
    for model, count in (("a", 80), ("b", 160)):
        of_model = {one.index for one in schedule.requests if one.model == model}
        assert abs(len(of_model & bypassed) - share * count) <= 1


def test_the_share_is_kept_in_every_twenty_requests_of_a_model() -> None:
    schedule = plan()
    bypassed = bypassing(schedule, 0.2)
    bypasses = [one.index in bypassed for one in schedule.requests if one.model == "b"]
    assert [sum(bypasses[start : start + 20]) for start in range(0, 160, 20)] == pytest.approx(
        [4] * 8, abs=1
    )


def test_schedules_differ_in_which_requests_bypass() -> None:
    assert bypassing(plan(1), 0.2) != bypassing(plan(2), 0.2)


def test_nothing_bypasses_unless_asked_to() -> None:
    assert bypassing(plan(), 0.0) == frozenset()


@given(SEEDS, SHARES, st.integers(1, 3))
def test_balancers_get_in_turn_what_does_not_bypass_them(
    seed: int, share: float, count: int
) -> None:
    schedule, balancers = plan(seed), [f"http://balancer-{index}" for index in range(count)]
    bypassed = bypassing(schedule, share)
    urls = routes(schedule, dict.fromkeys(REPLICAS, balancers), bypassed, REPLICAS)
    for index in bypassed:
        assert urls[index] == REPLICAS[schedule.requests[index].model].url
    served = [url for index, url in enumerate(urls) if index not in bypassed]
    assert served == [balancers[place % count] for place in range(len(served))]


@given(SEEDS)
def test_a_model_that_has_an_address_of_its_own_is_asked_there(seed: int) -> None:
    schedule = plan(seed)
    urls = routes(schedule, {"a": ("http://a",), "b": ("http://b",)}, (), REPLICAS)
    assert urls == tuple(f"http://{request.model}" for request in schedule.requests)
