"""Loads for the source, and a trial of one."""

from __future__ import annotations

from bench.load.arrivals import Constant
from bench.load.drive import Load
from bench.load.outcome import DriveResult
from bench.load.schedule import plan_closed_loop, plan_open_loop
from bench.load.workload import Fixed, Workload
from bench.records import Expectation, ScenarioFacts, Schedule, Trial
from validation.sidebyside.answers import MODEL
from validation.sidebyside.running import SOURCE

# Longer than any run; a closed loop ends with its list of requests.
_AT_MOST_S = 3600.0
_PROMPT = "How much does a load generator cost, and how true is what it says? " * 2


def closed_load(url: str, *, streams: int, requests: int, chunks: int) -> Load:
    """`requests` of `chunks` each to `url`, so many at a time, until the list is used up."""
    schedule = plan_closed_loop(
        seed=1,
        models=(MODEL,),
        workload=_workload(chunks),
        concurrency=streams,
        duration_s=_AT_MOST_S,
        count=requests,
    )
    return _all_to(url, schedule)


def ramp_load(url: str, *, streams: int, seconds: int, every_ms: int) -> Load:
    """So many streams that begin within `seconds`, each lasting half as long again."""
    schedule = plan_open_loop(
        seed=1,
        rates_rps={MODEL: streams / seconds},
        workload=_workload(chunks=2 + round(1.5 * seconds * 1000 / every_ms)),
        arrival=Constant(1.0),
        duration_s=float(seconds),
    )
    return _all_to(url, schedule)


def trial_of(load: Load, result: DriveResult) -> Trial:
    """What was measured as a trial, for the checks that judge trials. It is never stored."""
    return Trial(
        run_id="",
        arm=SOURCE,
        role="control",
        environment=SOURCE,
        scenario=ScenarioFacts("", "", (), Expectation.NOT_WORSE, {}),
        models=(MODEL,),
        block=0,
        position=0,
        seed=1,
        schedule_sha256=load.schedule.sha256,
        offered_rps=load.schedule.offered_rps,
        concurrency=load.schedule.concurrency,
        duration_s=load.schedule.duration_s,
        elapsed_s=result.elapsed_s,
        replicas=(),
        samples=result.samples,
        instrument=result.instrument,
        cut_short=result.cut_short,
    )


def _workload(chunks: int) -> Workload:
    return Workload(prompt=Fixed(16), output=Fixed(chunks))


def _all_to(url: str, schedule: Schedule) -> Load:
    count = len(schedule.requests)
    return Load(schedule, [_PROMPT] * count, [url] * count)
