"""`python -m validation.load_generators.many`: thousands of open streams, and what the client says of it.

Streams begin at a steady rate until all are open, against a source that keeps up. The
client's own checks of validity then judge it as they judge a trial.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from bench.analysis.bounds import DEFAULT_BOUNDS
from bench.analysis.trial_checks import check_reasons, trial_reasons
from bench.console import Parser, exit_code, log_folder, whole_number
from bench.cores import pinned
from bench.load.drive import Load
from bench.load.outcome import DriveResult
from bench.load.processes import run_spread
from bench.openfiles import allow_connections
from bench.sites.local import LocalSite
from bench.store.files import strict_json, write_whole
from validation.load_generators.children import rss_at_most
from validation.load_generators.columns import ONLY_INSTRUMENTS
from validation.load_generators.loads import ramp_load, trial_of
from validation.sidebyside.asking import take_tally
from validation.sidebyside.machine import machine_facts
from validation.sidebyside.running import Servers
from validation.sidebyside.tally import Tally

ROOT = Path(__file__).parents[2]
CHUNK_EVERY_MS = 200
DRAIN_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 after one line on stderr if that is not possible."""
    output = ROOT / "results" / "bench-load-streams.json"
    return exit_code(lambda: hold_many(parser().parse_args(arguments), output))


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = Parser(
        prog="python -m validation.load_generators.many", description=__doc__, allow_abbrev=False
    )
    for option, default, what in (
        ("--streams", 5000, "streams that are open at once in the end"),
        ("--seconds", 20, "time in which they begin"),
        ("--processes", 1, "processes that share them"),
    ):
        top.add_argument(
            option, type=whole_number, default=default, metavar="N", help=f"{what} ({default})"
        )
    return top


def hold_many(options: argparse.Namespace, output: Path) -> None:
    """Open the streams, print what was found, write it to `output` (JSON).

    Raises UserError where the machine does not allow so many open files.
    """
    allow_connections(options.streams)
    source_core, *others = sorted(os.sched_getaffinity(0))
    folder = log_folder(ROOT, "instruments")
    with pinned(others or [source_core]), closing(Servers(ROOT, folder)) as servers:
        source = servers.start_source(["127.0.0.1"], CHUNK_EVERY_MS, {source_core})
        load = ramp_load(
            f"http://127.0.0.1:{source.port}",
            streams=options.streams,
            seconds=options.seconds,
            every_ms=CHUNK_EVERY_MS,
        )
        take_tally(source.port)
        (result,) = run_spread(
            [load], LocalSite(), processes=options.processes, drain_timeout_s=DRAIN_S
        )
        streamed = take_tally(source.port)
    trials = [trial_of(load, result)]
    reasons = (*trial_reasons(trials), *check_reasons([trials], DEFAULT_BOUNDS))
    cores = {"source": [source_core], "load": others or [source_core]}
    record = {
        "note": ONLY_INSTRUMENTS,
        **machine_facts(ROOT, cores),
        "chunk_every_ms": CHUNK_EVERY_MS,
        "streamed": asdict(streamed),
        "instrument": asdict(result.instrument),
        "failed": sum(not sample.ok for sample in result.samples),
        "rss_bytes": rss_at_most(),
        "invalid": list(reasons),
    }
    write_whole(output, strict_json(output, record))
    print("\n".join(_told(load, result, streamed, reasons)))


def _told(
    load: Load, result: DriveResult, streamed: Tally, reasons: Sequence[str]
) -> Iterator[str]:
    instrument = result.instrument
    chunks = sum(len(sample.chunk_s) for sample in result.samples)
    yield (
        f"{streamed.open_most:,} streams open at once, {streamed.complete:,} of "
        f"{len(load.schedule.requests):,} complete, {chunks:,} chunks read of "
        f"{streamed.chunks:,} sent in {result.elapsed_s:.0f} s"
    )
    yield (
        f"dispatch lag p99 {instrument.dispatch_lag_p99_s * 1e3:.1f} ms, event loop lag p99 "
        f"{(instrument.loop_lag_p99_s or 0.0) * 1e3:.1f} ms, "
        f"CPU {instrument.cpu_share or 0.0:.0%} of a core "
        f"in the busiest of {instrument.processes}, memory {rss_at_most() / 2**20:,.0f} MiB"
    )
    yield "valid" if not reasons else "invalid: " + "; ".join(reasons)
    yield ONLY_INSTRUMENTS


if __name__ == "__main__":
    sys.exit(main())
