"""One load generator measured once: a short run and a long one of the same requests.

A program costs CPU to start, for each request, and for each chunk. The two runs differ in
the chunks of a stream alone, so that their difference is what chunks cost.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import UserError
from validation.load_generators.children import Cost, cost_of
from validation.load_generators.job import Job
from validation.load_generators.tools import Tool
from validation.sidebyside.asking import take_tally
from validation.sidebyside.tally import Tally

SHORT_CHUNKS = 16
_SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Measurement:
    """One load generator in one round. Seconds, bytes, CPU seconds (user and system).

    `chunk_cpu_s` is the CPU time per chunk, of all its processes, and `chunk_kernel_s` the
    part of it that system calls took. `start_cpu_s` is what the short run took in all:
    starting, the requests, the report. `rss_bytes` is the most that its processes had in
    the long run. `requests` and `lost` are counted by the source over both runs: streams
    that were complete, and those that are missing. `turn_s` is how long
    a slot was empty in the long run between the source's last chunk and the next request:
    reading that chunk late, and making a request.
    """

    chunk_cpu_s: float
    chunk_kernel_s: float
    start_cpu_s: float
    rss_bytes: int
    requests: int
    lost: int
    turn_s: float


@dataclass(frozen=True, slots=True)
class _Run:
    cost: Cost
    streamed: Tally


def warm_up(tool: Tool, job: Job, root: Path) -> None:
    """Run `tool` once for nothing: its first start reads its files from the disk."""
    _run(tool, replace(job, chunks=SHORT_CHUNKS), root)


def measure(tool: Tool, job: Job, root: Path) -> Measurement:
    """Run `tool` twice for `job`. Raises UserError if it fails or streams nothing more."""
    short = _run(tool, replace(job, chunks=SHORT_CHUNKS), root)
    long = _run(tool, job, root)
    chunks = long.streamed.chunks - short.streamed.chunks
    if chunks <= 0:
        raise UserError(
            f"{tool.name} was sent {short.streamed.chunks} chunks in its short run and "
            f"{long.streamed.chunks} in its long one; see {job.folder}"
        )
    complete = short.streamed.complete + long.streamed.complete
    return Measurement(
        chunk_cpu_s=(long.cost.cpu_s - short.cost.cpu_s) / chunks,
        chunk_kernel_s=(long.cost.kernel_s - short.cost.kernel_s) / chunks,
        start_cpu_s=short.cost.cpu_s,
        rss_bytes=long.cost.rss_bytes,
        requests=complete,
        lost=2 * job.requests - complete,
        turn_s=_turn_s(long.streamed, job.streams),
    )


def _turn_s(streamed: Tally, streams: int) -> float:
    """The time that slots were empty, by the requests that followed another."""
    slots_s = streams * (streamed.last_s - streamed.first_s)
    return (slots_s - streamed.open_s) / max(1, streamed.begun - streams)


def _run(tool: Tool, job: Job, root: Path) -> _Run:
    take_tally(job.port)
    log = job.folder / f"{tool.name.replace(' ', '-')}-{job.chunks}.log"
    cost = cost_of(tool.start(job), log, root)
    time.sleep(_SETTLE_S)
    return _Run(cost, take_tally(job.port))
