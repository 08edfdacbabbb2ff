"""Loads for the source: as many streams at a time as asked for, all alike."""

from __future__ import annotations

from bench.load.drive import Load
from bench.load.schedule import plan_closed_loop
from bench.load.workload import Fixed, Workload
from bench.sidebyside.answers import MODEL

# Longer than any run; a closed loop ends with its list of requests.
_AT_MOST_S = 3600.0
_PROMPT = "How much does a load generator cost, and how true is what it says? " * 2


def closed_load(url: str, *, streams: int, requests: int, chunks: int) -> Load:
    """`requests` of `chunks` each to `url`, so many at a time, until the list is used up."""
    schedule = plan_closed_loop(
        seed=1,
        models=(MODEL,),
        workload=Workload(prompt=Fixed(16), output=Fixed(chunks)),
        concurrency=streams,
        duration_s=_AT_MOST_S,
        count=requests,
    )
    return Load(schedule, [_PROMPT] * requests, [url] * requests)
