"""`python -m validation.calibrate`: how far the load generator's timings are off, by open streams."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.console import Parser, exit_code, run_program
from bench.cores import pinned
from bench.environments.local.facts import cpu_name
from bench.errors import UserError
from bench.load.accuracy.level import Level, Reading, measure
from bench.load.accuracy.running import running_source
from bench.load.accuracy.table import NO_ENGINE, render
from bench.progress import Progress, make_progress
from bench.provenance import git_commit
from bench.store.files import strict_json, write_whole

ROOT = Path(__file__).parents[1]
# At most 10,000 chunks per second, of which each core of a small machine carries its part.
LEVELS = (
    Level(streams=1, first_ms=20, every_ms=20, chunks=5, turns=80),
    Level(streams=100, first_ms=50, every_ms=50, chunks=20, turns=6),
    Level(streams=1000, first_ms=100, every_ms=100, chunks=30, turns=2),
)
_OTHER_FILES = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 after one line on stderr if that is not possible."""

    def work() -> None:
        options = parser().parse_args(arguments)
        calibrate(options.streams, ROOT / "results" / "calibration.json")

    return exit_code(work)


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = Parser(prog="python -m validation.calibrate", description=__doc__, allow_abbrev=False)
    known = ",".join(str(level.streams) for level in LEVELS)
    top.add_argument(
        "--streams",
        type=levels_named,
        default=LEVELS,
        metavar="A,B",
        help=f"numbers of open streams to measure at, of {known} (default: all)",
    )
    return top


def levels_named(text: str) -> tuple[Level, ...]:
    """The levels with these numbers of streams. Raises ArgumentTypeError for others."""
    known = {str(level.streams): level for level in LEVELS}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def calibrate(levels: Sequence[Level], output: Path) -> None:
    """Measure at every level, print the table, write the record to `output` (JSON).

    Raises UserError when the client or the source fails.
    """
    allow_files(max(level.streams for level in levels) + _OTHER_FILES)
    cores = sorted(os.sched_getaffinity(0))
    readings = _measure(levels, cores, make_progress())
    write_whole(output, strict_json(output, record(facts(ROOT, cores), readings)))
    remarks = [] if len(cores) > 1 else ["Client and source shared the one core there is."]
    width = shutil.get_terminal_size((100, 24)).columns
    print(render(readings, remarks, width=width, colour=sys.stdout.isatty()), end="")


def allow_files(needed: int) -> None:
    """Let this process and what it starts open so many files. Raises UserError if it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(f"{needed} open files are needed, {hard} are allowed; raise ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def record(machine: Mapping[str, Any], readings: Sequence[Reading]) -> dict[str, Any]:
    """The whole calibration as JSON values."""
    return {"note": NO_ENGINE, **machine, "levels": [asdict(one) for one in readings]}


def facts(root: Path, cores: Sequence[int]) -> dict[str, Any]:
    """Date, suite and machine, as JSON values."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(root / ".git"),
        "python": platform.python_version(),
        "cpu": cpu_name(Path("/proc/cpuinfo")),
        "kernel": platform.release(),
        "cores": {"source": cores[0], "client": cores[-1], "usable": len(cores)},
    }


def _measure(levels: Sequence[Level], cores: Sequence[int], progress: Progress) -> list[Reading]:
    readings = []
    with pinned({cores[0]}), running_source() as url, pinned({cores[-1]}):
        for level in levels:
            with progress.step(f"{level}, {level.duration_s:.0f} s"):
                readings.append(measure(level, url, cores))
    return readings


if __name__ == "__main__":
    run_program(main)
