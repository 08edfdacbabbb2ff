"""Schedules: seeded, hashed, merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.load.plan.arrivals import Constant, LongTail, OfModels, OnOff, OpenLoop, Peaks, Poisson
from bench.load.plan.schedule import plan_closed_loop, plan_open_loop
from bench.load.plan.workload import Bimodal, LogNormal, SharedPrefixes, Uniform, Workload
from bench.records import Prefix, Schedule

WORKLOAD = Workload(prompt=Uniform(32, 64), output=Bimodal(8, 160, 0.15))
POISSON = Poisson(load=0.8)
ARRIVALS = st.sampled_from(
    [
        POISSON,
        Constant(load=0.8),
        OnOff(load=0.8, on_s=1, off_s=3, ratio=3),
        Peaks(load=0.8, low=0.1),
        LongTail(load=0.8, exponent=2.0),
    ]
)
SEEDS = st.integers(0, 2**63)


def plan(
    seed: int = 1,
    arrival: OpenLoop | OfModels = POISSON,
    rates_rps: dict[str, float] | None = None,
    duration_s: float = 20.0,
) -> Schedule:
    return plan_open_loop(
        seed=seed,
        rates_rps={"a": 4.0, "b": 8.0} if rates_rps is None else rates_rps,
        workload=WORKLOAD,
        arrival=arrival,
        duration_s=duration_s,
    )


def plan_closed(
    seed: int = 1, models: tuple[str, ...] = ("a", "b"), concurrency: int = 4, count: int = 25
) -> Schedule:
    return plan_closed_loop(
        seed=seed,
        models=models,
        workload=WORKLOAD,
        concurrency=concurrency,
        duration_s=5.0,
        count=count,
    )


@given(SEEDS, ARRIVALS)
def test_the_same_seed_gives_the_same_schedule_and_hash(
    seed: int, arrival: OpenLoop | OfModels
) -> None:
    assert plan(seed, arrival) == plan(seed, arrival)
    assert plan_closed(seed) == plan_closed(seed)


@given(SEEDS, SEEDS)
def test_other_seeds_give_other_hashes(seed: int, other: int) -> None:
    same = seed == other
    assert (plan(seed).sha256 == plan(other).sha256) is same
    assert (plan_closed(seed).sha256 == plan_closed(other).sha256) is same


def test_the_hash_is_the_same_on_every_machine() -> None:
    # Written down once; a change means that old and new results cannot be paired.
    workload = Workload(prompt=Uniform(32, 64), output=LogNormal(40, 1.0, 1, 200))
    schedule = plan_open_loop(
        seed=2, rates_rps={"a": 4.0}, workload=workload, arrival=Poisson(load=1), duration_s=20
    )
    assert schedule.sha256 == "3b93a81ea7e9f469a835384d146b20bfe7f9fbfd1a249c00696778261abd2ed3"


@given(SEEDS, ARRIVALS)
def test_streams_are_merged_by_time_and_numbered(seed: int, arrival: OpenLoop | OfModels) -> None:
    schedule = plan(seed, arrival)
    times = [request.at_s for request in schedule.requests]
    assert times == sorted(times)
    assert all(0 <= at_s < 20 for at_s in times)
    assert [request.index for request in schedule.requests] == list(range(len(times)))
    assert schedule.offered_rps == 12.0
    assert schedule.concurrency is None


def test_each_model_gets_its_own_rate() -> None:
    schedule = plan(rates_rps={"a": 10.0, "b": 30.0}, arrival=Constant(load=0.8))
    models = [request.model for request in schedule.requests]
    assert models.count("a") == pytest.approx(200, abs=1)
    assert models.count("b") == pytest.approx(600, abs=1)


def test_models_have_their_peaks_in_the_order_of_their_rates() -> None:
    rates_rps = {"b": 10.0, "a": 10.0}
    schedule = plan(rates_rps=rates_rps, arrival=Peaks(load=0.8, low=0.0))
    assert all((one.at_s <= 10.0) is (one.model == "b") for one in schedule.requests)
    together = plan(rates_rps=rates_rps, arrival=Peaks(load=0.8, low=0.0, together=True))
    assert len(together.requests) == len(schedule.requests)
    assert all(one.at_s >= 10.0 for one in together.requests)


def test_another_model_leaves_the_requests_of_the_first_as_they_are() -> None:
    alone = plan(rates_rps={"a": 4.0})
    beside = plan(rates_rps={"b": 8.0, "a": 4.0})
    of_a = [replace(request, index=0) for request in beside.requests if request.model == "a"]
    assert of_a == [replace(request, index=0) for request in alone.requests]


def test_models_do_not_copy_each_others_stream() -> None:
    schedule = plan(rates_rps={"a": 8.0, "b": 8.0})
    by_model = {
        model: [r.at_s for r in schedule.requests if r.model == model] for model in ("a", "b")
    }
    assert not set(by_model["a"]) & set(by_model["b"])


def test_prompts_of_a_schedule_are_all_different() -> None:
    seeds = [request.prompt_seed for request in plan(duration_s=200).requests]
    assert len(set(seeds)) == len(seeds)


def test_a_shared_prefix_is_part_of_the_prompt_and_of_the_hash() -> None:
    def prefixed(tokens: int) -> Schedule:
        return plan_open_loop(
            seed=1,
            rates_rps={"a": 4.0},
            workload=replace(WORKLOAD, prefixes=SharedPrefixes(count=3, tokens=tokens)),
            arrival=POISSON,
            duration_s=20.0,
        )

    schedule = prefixed(100)
    assert {one.prefixes for one in schedule.requests} == {
        (Prefix(100, rank),) for rank in range(3)
    }
    assert all(100 + 32 <= one.prompt_tokens <= 100 + 64 for one in schedule.requests)
    assert schedule.sha256 == prefixed(100).sha256 != prefixed(101).sha256


def test_a_closed_loop_takes_the_models_in_turn_up_to_the_count() -> None:
    schedule = plan_closed(models=("a", "b"), count=5, concurrency=2)
    assert [request.model for request in schedule.requests] == ["a", "b", "a", "b", "a"]
    assert {request.at_s for request in schedule.requests} == {0.0}
    assert (schedule.concurrency, schedule.offered_rps) == (2, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plan(rates_rps={}), "no model"),
        (lambda: plan(rates_rps={"a": 0.0}), "rate of a is 0 req/s"),
        (lambda: plan(duration_s=0.0), "duration is 0 s"),
        (lambda: plan(rates_rps={"a": 1e-9}), "no request falls into 20 s"),
        (lambda: plan_closed(models=()), "no model"),
        (lambda: plan_closed(concurrency=0), "concurrency is 0"),
        (lambda: plan_closed(concurrency=30), "concurrency is 30 for 25 requests"),
    ],
)
def test_bad_input_is_refused_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
