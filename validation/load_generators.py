"""`python -m validation load-generators`: measure the load generators that are installed.

It measures load generators only. No engine runs, and nothing here says how a model is served.

A program costs CPU to start, for each request, and for each chunk. It is measured in a short run
and a long one, which differ in the chunks of a stream alone, so that their difference is what
chunks cost.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.config.topology import Model
from bench.console import log_folder
from bench.environments.cpu_engine.models import model_folder
from bench.errors import UserError
from bench.load.accuracy.answers import MODEL, StreamCounts
from bench.load.accuracy.running import ask_report
from bench.processes.guarded import Guarded, last_lines
from bench.progress import make_progress
from bench.telemetry.cpu import Usage, children_of, usage
from validation import harness
from validation.figures import Comparison, Metric, Round, cpu_metric
from validation.harness import ROOT
from validation.programs import OURS, Job, LoadGenerator, known_load_generators
from validation.servers import beside_source

CHUNK_EVERY_MS = 20
SHORT_CHUNKS = 16
_SETTLE_S = 0.5
_LOOK_EVERY_S = 0.5
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One load generator in one round. Seconds, bytes, CPU seconds (user and system).

    `chunk_cpu_s` is the CPU time per chunk, of all its processes, and `chunk_kernel_s` the
    part of it that system calls took. `start_cpu_s` is what the short run took in all:
    starting, the requests, the report. `rss_bytes` is the most that its processes had in
    the long run. `requests` and `lost` are counted by the source over both runs: streams
    that were complete, and those that are missing. `turn_s` is the mean time in the long run from
    the source's last chunk of a stream to the next request: reading that chunk late, and
    making a request.
    """

    chunk_cpu_s: float
    chunk_kernel_s: float
    start_cpu_s: float
    rss_bytes: int
    requests: int
    lost: int
    turn_s: float


METRICS: tuple[Metric[Measurement], ...] = (
    cpu_metric("chunk_cpu_us", "CPU/chunk", lambda one: (one.chunk_cpu_s, one.chunk_kernel_s)),
    Metric("start_cpu_s", "CPU to start", "s", lambda one, _: one.start_cpu_s),
    Metric("rss_mib", "RSS", "MiB", lambda one, _: one.rss_bytes / 2**20),
    Metric("requests", "requests", "complete", lambda one, _: float(one.requests)),
    Metric("lost", "errors", "requests", lambda one, _: float(one.lost)),
    Metric("turn_ms", "turn", "ms", lambda one, _: one.turn_s * 1e3),
)


def measure(generator: LoadGenerator, job: Job) -> Measurement:
    """Run `generator` twice for `job`. Raises UserError if it fails or streams nothing more."""
    short, short_counts = _run(generator, replace(job, chunks=SHORT_CHUNKS))
    long, long_counts = _run(generator, job)
    chunks = long_counts.chunks - short_counts.chunks
    if chunks <= 0:
        raise UserError(
            f"{generator.name} was sent {short_counts.chunks} chunks in its short run and "
            f"{long_counts.chunks} in its long one; see {job.folder}"
        )
    complete = short_counts.complete + long_counts.complete
    return Measurement(
        chunk_cpu_s=(long.cpu_s - short.cpu_s) / chunks,
        chunk_kernel_s=(long.kernel_s - short.kernel_s) / chunks,
        start_cpu_s=short.cpu_s,
        rss_bytes=long.rss_bytes,
        requests=complete,
        lost=2 * job.requests - complete,
        turn_s=_turn_s(long_counts, job.streams),
    )


def _turn_s(counts: StreamCounts, streams: int) -> float:
    """The time in which fewer than `streams` were open, for each request that followed another."""
    wanted_s = streams * (counts.last_s - counts.first_s)
    return (wanted_s - counts.open_s) / max(1, counts.begun - streams)


def _run(generator: LoadGenerator, job: Job) -> tuple[Usage, StreamCounts]:
    """Run `generator` to its end: what it used, and what the source counted meanwhile."""
    ask_report(job.url)
    log = job.folder / f"{generator.name.replace(' ', '-')}-{job.chunks}.log"
    used = cost_of(generator.start(job), log)
    time.sleep(_SETTLE_S)
    return used, ask_report(job.url).counts


def cost_of(command: Sequence[str], log: Path) -> Usage:
    """Run `command` to its end: the CPU time of all its processes, the most memory at once.

    The CPU time is the kernel's exact account of ended children (getrusage(2)), with the
    20 ms of the guard that started them. Output goes to `log`. Raises UserError when the
    command fails or has not ended in ten minutes.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = Guarded(command, log=log, folder=ROOT)
    most, looks = 0, 0
    try:
        while (code := process.wait(_LOOK_EVERY_S)) is None and looks < _TIMEOUT_S / _LOOK_EVERY_S:
            most = max(most, usage(children_of(process.pid)).rss_bytes)
            looks += 1
    finally:
        process.terminate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        how = f"has not ended in {_TIMEOUT_S:.0f} s" if code is None else f"ended with {code}"
        raise UserError(f"{command[0]} {how}: {last_lines(log) or 'it printed nothing'}; see {log}")
    kernel_s = after.ru_stime - before.ru_stime
    return Usage(after.ru_utime - before.ru_utime + kernel_s, kernel_s, most)


COMPARISON = Comparison(
    note=(
        "Only load generators were measured, with a synthetic source as their server: no engine "
        "ran, and nothing here says how fast a model is served."
    ),
    metrics=METRICS,
    reference=OURS,
)
READING = (
    "CPU/chunk: of all processes of a program, the difference of two runs of the same requests "
    "that differ in the chunks of a stream alone. CPU to start: all of the short run, report "
    "included. RSS: of the long run; pages that processes share count for each. Turn: from the "
    "last chunk of a stream to the next request. Bare reads: no client, but what none can be "
    "cheaper than: it waits, reads and keeps the bytes with their time."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    harness.add_counts(
        parser,
        ("rounds", 3, "times that every program is measured"),
        ("streams", 96, "streams open at once"),
        ("requests", 192, "streams in all, in each run"),
        ("chunks", 1024, "events of a stream in the long run"),
    )
    parser.add_argument("--only", metavar="A,B", help="programs to measure (default: all)")


def compare(
    options: argparse.Namespace, output: Path = ROOT / "results" / "bench-load.json"
) -> None:
    """Measure what is installed, print the table, write the record to `output` (JSON).

    Raises UserError for a program that is installed and does not work.
    """
    selected = harness.choose(known_load_generators(ROOT), options.only, "load generator")
    folder, progress = log_folder(ROOT, "load-generators"), make_progress()
    work = {name: getattr(options, name) for name in ("streams", "requests", "chunks")}
    facts = {**work, "chunk_every_ms": CHUNK_EVERY_MS, **selected.facts(folder)}
    tokenizer = model_folder(Model("tiny", "llama", None, None, 1), ROOT / ".cache")
    with harness.busy_around() as busy, beside_source(folder, CHUNK_EVERY_MS) as (url, cores):
        job = Job(url, MODEL, tokenizer, folder, **work)
        with progress.step("starting each program once, which reads its files from disk") as step:
            for generator in selected.present:
                step.update(generator.name)
                _run(generator, replace(job, chunks=SHORT_CHUNKS))
        rounds = harness.run_rounds(
            {one.name: one for one in selected.present},
            options.rounds,
            lambda generator, _: measure(generator, job),
            progress,
        )
    remarks = (*harness.busy_remarks(**busy), *selected.remarks, *remarks_of(rounds))
    facts |= {**harness.machine_facts(cores), "busy_percent": busy}
    harness.finish(COMPARISON, rounds, facts, remarks, output)


def remarks_of(rounds: Sequence[Round[Measurement]]) -> Iterator[str]:
    """What `rounds` show, then how to read the table."""
    for name in rounds[0]:
        if lost := sum(measured[name].lost for measured in rounds):
            yield f"{name}: {lost:,} requests were not completed; its figures do not count"
        turn_ms = max(measured[name].turn_s for measured in rounds) * 1e3
        # Whoever is late reads several chunks at once, which makes each of them cheaper.
        if turn_ms > CHUNK_EVERY_MS:
            yield (
                f"{name} may not have kept up: {turn_ms:.0f} ms from a stream's end to the next "
                f"request, with chunks every {CHUNK_EVERY_MS} ms; its cost per chunk may look "
                "too small"
            )
    yield READING
