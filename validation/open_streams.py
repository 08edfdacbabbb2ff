"""`python -m validation open-streams`: thousands of open streams, and what the client shows then.

Streams begin at a steady rate until all are open, against a source that keeps up. The
checks of validity then judge the client as they judge a trial.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.analysis.checks import DEFAULT_BOUNDS, check_reasons, trial_reasons
from bench.console import log_folder
from bench.load.accuracy.answers import MODEL, StreamCounts
from bench.load.accuracy.running import ask_report
from bench.load.plan.arrivals import Constant
from bench.load.plan.schedule import plan_open_loop
from bench.load.plan.workload import Fixed, Workload
from bench.load.run.drive import DriveResult, Load
from bench.load.run.processes import run_spread
from bench.processes.local import LocalSite
from bench.processes.resources import allow_connections
from bench.records import Expectation, ScenarioFacts, Trial
from validation import harness
from validation.harness import ROOT
from validation.load_clients import PROMPT
from validation.load_generators import COMPARISON
from validation.servers import SOURCE, beside_source

CHUNK_EVERY_MS = 200
DRAIN_S = 60.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    harness.add_counts(
        parser,
        ("streams", 5000, "streams that are open at once in the end"),
        ("seconds", 20, "time in which they begin"),
        ("processes", 1, "processes that share them"),
    )


def hold_open(
    options: argparse.Namespace, output: Path = ROOT / "results" / "bench-load-streams.json"
) -> None:
    """Open the streams, print what was found, write it to `output` (JSON).

    Raises UserError where the machine does not allow so many open files.
    """
    allow_connections(options.streams)
    with beside_source(log_folder(ROOT, "open-streams"), CHUNK_EVERY_MS) as (url, cores):
        load = ramp_load(url, options.streams, options.seconds, CHUNK_EVERY_MS)
        ask_report(url)
        (result,) = run_spread(
            [load], LocalSite(), processes=options.processes, drain_timeout_s=DRAIN_S
        )
        counts = ask_report(url).counts
    trials = [trial_of(load, result)]
    reasons = (*trial_reasons(trials), *check_reasons([trials], DEFAULT_BOUNDS))
    record = {
        "note": COMPARISON.note,
        **harness.machine_facts(cores),
        "chunk_every_ms": CHUNK_EVERY_MS,
        "streamed": counts,
        "instrument": result.instrument,
        "failed": sum(not sample.ok for sample in result.samples),
        "rss_bytes": _most_memory(),
        "invalid": list(reasons),
    }
    harness.keep(output, record)
    print("\n".join(_lines(load, result, counts, reasons)))


def ramp_load(url: str, streams: int, seconds: int, every_ms: int) -> Load:
    """`streams` that begin within `seconds`, each lasting half as long again."""
    schedule = plan_open_loop(
        seed=1,
        rates_rps={MODEL: streams / seconds},
        workload=Workload(Fixed(16), Fixed(2 + round(1.5 * seconds * 1000 / every_ms))),
        arrival=Constant(1.0),
        duration_s=float(seconds),
    )
    count = len(schedule.requests)
    return Load(schedule, [PROMPT] * count, [url] * count)


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


def _most_memory() -> int:
    """The most memory that this process, or any one that it has waited for, ever had; bytes."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whose) * 1024


def _lines(
    load: Load, result: DriveResult, counts: StreamCounts, reasons: Sequence[str]
) -> Iterator[str]:
    instrument = result.instrument
    chunks = sum(len(sample.chunk_s) for sample in result.samples)
    yield (
        f"{counts.open_most:,} streams open at once, {counts.complete:,} of "
        f"{len(load.schedule.requests):,} complete, {chunks:,} chunks read of "
        f"{counts.chunks:,} sent in {result.elapsed_s:.0f} s"
    )
    yield (
        f"dispatch lag p99 {instrument.dispatch_lag_p99_s * 1e3:.1f} ms, event loop lag p99 "
        f"{(instrument.loop_lag_p99_s or 0.0) * 1e3:.1f} ms, "
        f"CPU {instrument.cpu_share or 0.0:.0%} of a core "
        f"in the busiest of {instrument.processes}, memory {_most_memory() / 2**20:,.0f} MiB"
    )
    yield "valid" if not reasons else "invalid: " + "; ".join(reasons)
    yield COMPARISON.note
