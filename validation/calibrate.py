"""`python -m validation calibrate`: how far the load generator's timings are off."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.analysis.checks import DEFAULT_BOUNDS
from bench.console import log_folder, terminal
from bench.load.accuracy.measurement import Level, Reading, measure
from bench.load.accuracy.running import running_source
from bench.processes.resources import allow_connections, pinned
from bench.progress import make_progress
from validation import harness
from validation.figures import Row, render
from validation.harness import ROOT

# At most 10,000 chunks per second, of which each core of a small machine carries its part.
LEVELS = (
    Level(streams=1, first_ms=20, every_ms=20, chunks=5, turns=80),
    Level(streams=100, first_ms=50, every_ms=50, chunks=20, turns=6),
    Level(streams=1000, first_ms=100, every_ms=100, chunks=30, turns=2),
)
NO_ENGINE = (
    "No engine was measured: a source that says when it sent each chunk stood in for one, and "
    "all figures are about the load generator alone."
)
READING = (
    "Error: the absolute difference of what the client measured and what the source says of the "
    "same request. TTFT and E2E begin before the request leaves the client and end when a chunk "
    "has come: two ways over loopback, and the time in which the source wakes up, are errors here."
)
TITLES = (
    "streams\nerror of",
    *("p50\nms", "p95\nms", "p99\nms", "max\nms", "\nn"),
    *("client\nCPU", "loop lag\np99 ms", "source late\np99 ms"),
)
# The share of the time between two chunks by which the source may be late unmentioned.
_LATE_SHARE = 0.1


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    known = ",".join(str(level.streams) for level in LEVELS)
    parser.add_argument(
        "--streams",
        type=levels_named,
        default=LEVELS,
        metavar="A,B",
        help=f"numbers of open streams to measure at, of {known} (default: all)",
    )


def levels_named(text: str) -> tuple[Level, ...]:
    """The levels with these numbers of streams. Raises ArgumentTypeError for others."""
    known = {str(level.streams): level for level in LEVELS}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def calibrate(
    options: argparse.Namespace, output: Path = ROOT / "results" / "calibration.json"
) -> None:
    """Measure at every level, print the table, write the record to `output` (JSON).

    Raises UserError when the client or the source fails.
    """
    levels: Sequence[Level] = options.streams
    allow_connections(max(level.streams for level in levels))
    cores = sorted(os.sched_getaffinity(0))
    log = log_folder(ROOT, "calibrate") / "source.log"
    progress = make_progress()
    readings = []
    with pinned({cores[0]}), running_source(log) as source, pinned({cores[-1]}):
        for level in levels:
            with progress.step(f"{level}, {level.duration_s:.0f} s"):
                readings.append(measure(level, source.url, cores))
    facts = harness.machine_facts({"source": cores[0], "client": cores[-1], "usable": len(cores)})
    harness.keep(output, {"note": NO_ENGINE, **facts, "levels": readings})
    shared = [] if len(cores) > 1 else ["Client and source shared the one core there is."]
    remarks = (*remarks_of(readings), *shared, READING, NO_ENGINE)
    rows = (row for one in readings for row in rows_of(one))
    width, colour = terminal()
    print(render(TITLES, rows, remarks, width=width, colour=colour), end="")


def rows_of(reading: Reading) -> Iterator[Row]:
    """The lines of the table that show a level."""
    accuracy, instrument = reading.accuracy, reading.instrument
    of_level = (
        f"{100 * (instrument.cpu_share or 0.0):.0f} %",
        _ms(instrument.loop_lag_p99_s or 0.0),
        _ms(reading.source_late.p99_s),
    )
    yield Row(f"{accuracy.streams:,}", ("", "", "", "", "", *of_level), style="bold")
    for name, error in (("TTFT", accuracy.ttft), ("ITL", accuracy.itl), ("E2E", accuracy.e2e)):
        times_s = (error.p50_s, error.p95_s, error.p99_s, error.max_s)
        yield Row(f"  {name}", (*map(_ms, times_s), f"{error.n:,}"))
    yield Row("")


def remarks_of(readings: Sequence[Reading]) -> Iterator[str]:
    """What `readings` show besides errors: a source that was late, a machine that was busy."""
    for reading in readings:
        late_s, every_s = reading.source_late.p99_s, reading.level.every_ms / 1000
        if late_s > _LATE_SHARE * every_s:
            yield (
                f"At {reading.level} the source itself was late, by {_ms(late_s)} ms (p99) where"
                f" chunks are {1000 * every_s:.0f} ms apart. The client's errors do not include"
                " that, but chunks came less evenly than planned."
            )
    for reading in readings:
        share = reading.instrument.foreign_cpu_share
        if share is None:
            yield "How much CPU time other processes took is unknown."
        elif share > DEFAULT_BOUNDS.foreign_cpu_share:
            yield (
                f"At {reading.level} other processes took"
                f" {100 * share:.0f} % of the CPU time: measure again on an idle machine."
            )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3f}"
