"""Shards of a load are a partition of it, and their results merge to one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.plan.arrivals import Poisson
from bench.load.plan.schedule import plan_closed_loop, plan_open_loop
from bench.load.plan.workload import Fixed, Workload
from bench.load.run.drive import DriveResult, Ending, Load
from bench.load.run.shards import (
    LOADS_JSON,
    PROCESS_CHUNKS_PER_S,
    RESULTS_JSON,
    merge,
    processes_for,
    shard,
)
from bench.records import ErrorKind, Instrument, Schedule
from tests.bench.making import answered, failed

WORKLOAD = Workload(prompt=Fixed(64), output=Fixed(8))
SHARES = st.integers(1, 9)


def load_for(schedule: Schedule) -> Load:
    indexes = [request.index for request in schedule.requests]
    return Load(
        schedule,
        tuple(f"prompt {index}" for index in indexes),
        tuple(f"http://host-{index % 3}" for index in indexes),
    )


@st.composite
def open_loads(draw: st.DrawFn) -> Load:
    rates = draw(st.lists(st.floats(5, 60), min_size=1, max_size=3))
    schedule = plan_open_loop(
        seed=draw(st.integers(0, 1000)),
        rates_rps={f"model-{index}": rate for index, rate in enumerate(rates)},
        workload=WORKLOAD,
        arrival=Poisson(1.0),
        duration_s=2.0,
    )
    return load_for(schedule)


@st.composite
def closed_loads(draw: st.DrawFn) -> Load:
    concurrency = draw(st.integers(1, 20))
    schedule = plan_closed_loop(
        seed=draw(st.integers(0, 1000)),
        models=("a", "b")[: draw(st.integers(1, 2))],
        workload=WORKLOAD,
        concurrency=concurrency,
        duration_s=2.0,
        count=concurrency * draw(st.integers(1, 6)) + draw(st.integers(0, 5)),
    )
    return load_for(schedule)


LOADS = st.one_of(open_loads(), closed_loads())


@given(load=LOADS, count=SHARES)
def test_every_request_is_in_exactly_one_shard_with_its_prompt_and_server(
    load: Load, count: int
) -> None:
    whole = list(zip(load.schedule.requests, load.prompts, load.urls, strict=True))
    parts = [shard(load, index, count) for index in range(count)]
    dealt = [
        one
        for part in parts
        for one in zip(part.schedule.requests, part.prompts, part.urls, strict=True)
    ]
    assert sorted(dealt, key=lambda one: one[0].index) == whole


@given(load=LOADS, count=SHARES)
def test_shards_keep_the_order_the_window_and_the_hash_of_their_schedule(
    load: Load, count: int
) -> None:
    for index in range(count):
        part = shard(load, index, count).schedule
        indexes = [request.index for request in part.requests]
        assert indexes == sorted(indexes)
        assert (part.duration_s, part.sha256) == (load.schedule.duration_s, load.schedule.sha256)


@given(load=open_loads(), count=SHARES)
def test_shards_of_an_open_loop_offer_alike_and_together_all(load: Load, count: int) -> None:
    parts = [shard(load, index, count).schedule for index in range(count)]
    sizes = [len(part.requests) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    offered = sum(part.offered_rps or 0.0 for part in parts)
    assert offered == pytest.approx(load.schedule.offered_rps)
    assert all(part.concurrency is None for part in parts)


@given(load=closed_loads(), count=SHARES)
def test_shards_of_a_closed_loop_split_its_slots_and_none_runs_dry_before_the_others(
    load: Load, count: int
) -> None:
    slots, planned = load.schedule.concurrency or 0, len(load.schedule.requests)
    parts = [shard(load, index, count).schedule for index in range(count)]
    shares = [part.concurrency or 0 for part in parts]
    assert sum(shares) == slots
    assert max(shares) - min(shares) <= 1
    for part, share in zip(parts, shares, strict=True):
        assert planned // slots * share <= len(part.requests) <= -(-planned // slots) * share
        assert part.offered_rps is None


@given(load=LOADS)
def test_one_shard_is_the_whole_load(load: Load) -> None:
    part = shard(load, 0, 1)
    assert part.schedule == load.schedule
    assert (tuple(part.prompts), tuple(part.urls)) == (load.prompts, load.urls)


def test_shards_of_a_closed_loop_get_requests_of_every_model() -> None:
    schedule = plan_closed_loop(
        seed=1, models=("a", "b"), workload=WORKLOAD, concurrency=8, duration_s=9, count=400
    )
    for index in range(2):
        requests = shard(load_for(schedule), index, 2).schedule.requests
        assert 60 < sum(request.model == "a" for request in requests) < 140


def result(*indexes: int, **changes: Any) -> DriveResult:
    made = DriveResult(
        samples=tuple(answered(index, 0.1) for index in indexes),
        instrument=Instrument(dispatch_lag_p99_s=0.002, loop_lag_p99_s=0.003, cpu_share=0.2),
        started_s=7.0,
        elapsed_s=3.0,
        ending=Ending.COMPLETE,
    )
    return replace(made, **changes)


@given(load=LOADS, count=SHARES)
def test_the_results_of_all_shards_are_the_samples_of_one_process(load: Load, count: int) -> None:
    def measured(part: Load) -> DriveResult:
        return result(*(request.index for request in part.schedule.requests))

    merged = merge([measured(shard(load, index, count)) for index in range(count)])
    assert merged.samples == measured(load).samples
    assert (merged.ending, merged.elapsed_s, merged.lost) == (Ending.COMPLETE, 3.0, ())


def test_the_instrument_is_as_bad_as_its_worst_process_and_its_cpu_time_adds_up() -> None:
    merged = merge(
        [
            result(0, instrument=Instrument(0.001, 0.030, 0.5)),
            result(1, instrument=Instrument(0.020, 0.003, 0.25)),
        ]
    )
    assert merged.instrument == Instrument(0.020, 0.030, 0.5, processes=2, total_cpu_share=0.75)


@pytest.mark.parametrize(
    ("endings", "whole"),
    [
        ((Ending.COMPLETE, Ending.COMPLETE), Ending.COMPLETE),
        ((Ending.COMPLETE, Ending.RAN_DRY), Ending.RAN_DRY),
        ((Ending.RAN_DRY, Ending.INTERRUPTED), Ending.INTERRUPTED),
    ],
)
def test_the_whole_ended_as_the_worst_of_its_parts(
    endings: tuple[Ending, ...], whole: Ending
) -> None:
    parts = [result(index, ending=ending) for index, ending in enumerate(endings)]
    assert merge(parts).ending is whole


def test_a_lost_part_is_told_and_the_others_are_kept() -> None:
    merged = merge([result(1), result(3, elapsed_s=4.0)], ["load process 1 of 3 was killed"])
    assert [sample.index for sample in merged.samples] == [1, 3]
    assert merged.elapsed_s == 4.0
    assert merged.ending is Ending.LOST
    assert merged.cut_short
    assert merged.lost == ("load process 1 of 3 was killed",)


@given(load=LOADS)
def test_a_load_comes_back_from_its_bytes(load: Load) -> None:
    (again,) = LOADS_JSON.validate_json(LOADS_JSON.dump_json((load,)))
    assert again.schedule == load.schedule
    assert (tuple(again.prompts), tuple(again.urls)) == (load.prompts, load.urls)


@given(at_s=st.lists(st.floats(0, 1e4), max_size=20), detail=st.none() | st.text(max_size=20))
def test_a_result_comes_back_from_its_bytes_to_the_last_bit(
    at_s: list[float], detail: str | None
) -> None:
    samples = (
        answered(3, 0.1, chunk_s=tuple(at_s)),
        failed(4, ErrorKind.DISCONNECT, detail=detail),
    )
    kept = result(samples=samples, ending=Ending.RAN_DRY, lost=("one",))
    assert RESULTS_JSON.validate_json(RESULTS_JSON.dump_json((kept,))) == (kept,)


def test_a_load_that_one_process_can_carry_gets_one() -> None:
    schedule = plan_open_loop(
        seed=1, rates_rps={"a": 20.0}, workload=WORKLOAD, arrival=Poisson(1.0), duration_s=2.0
    )
    assert processes_for(schedule, cores=8) == 1


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 2), (8, 4)])
def test_more_chunks_than_one_process_can_read_get_as_many_as_there_are_cores(
    cores: int, processes: int
) -> None:
    rps = 3.5 * PROCESS_CHUNKS_PER_S / 8
    schedule = plan_open_loop(
        seed=1, rates_rps={"a": rps}, workload=WORKLOAD, arrival=Poisson(1.0), duration_s=1.0
    )
    assert processes_for(schedule, cores) == processes
