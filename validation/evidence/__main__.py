"""Measure how often the rule is right, in as many sittings as it takes.

What is missing in docs/evidence/ledger.jsonl is measured, run by run, on an otherwise idle
machine; Ctrl-C, or --hours, ends a sitting, and the next one goes on. Nothing is measured twice
under one version of the rule.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.analysis.verdict import RULE
from bench.console import run_program
from bench.environments.local import stop_kept
from bench.errors import UserError
from bench.progress import make_progress
from bench.store.files import strict_json, write_whole
from validation.evidence.ledger import append, missing, read_ledger
from validation.evidence.measuring import Bench
from validation.evidence.plan import planned_runs
from validation.evidence.summary import TITLES, page, summary

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "evidence"
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when nothing is missing, or the hours are over."""
    options = parser().parse_args(arguments)
    try:
        if not options.table:
            _measure(options)
        _write(options.folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        _write(options.folder)
        print("interrupted; the next sitting goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m validation.evidence", description=__doc__)
    top.add_argument("--hours", type=float, metavar="H", help="end a sitting after so long")
    top.add_argument(
        "--only", choices=tuple(TITLES), metavar="KIND", help=f"one of {', '.join(TITLES)}"
    )
    top.add_argument(
        "--table", action="store_true", help="only make the page and the summary again"
    )
    top.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="ledger, summary and page (default: docs/evidence)",
    )
    return top


def _measure(options: argparse.Namespace) -> None:
    ledger = options.folder / "ledger.jsonl"
    planned = [run for run in planned_runs() if options.only in (None, run.kind)]
    waiting = missing(planned, read_ledger(ledger), RULE)
    progress = make_progress()
    bench = Bench(ROOT, progress)
    ends_s = time.monotonic() + 3600 * (options.hours or float("inf"))
    try:
        for index, run in enumerate(waiting):
            if time.monotonic() > ends_s:
                break
            done = len(planned) - len(waiting) + index
            progress.note(f"run {done + 1} of {len(planned)}: {run.key}")
            entry = bench.measure(run)
            append(ledger, entry)
            progress.note(f"{run.key}: {entry.verdict} {entry.ratio} in {entry.took_s:.0f} s")
    finally:
        stop_kept(ROOT / ".cache", progress)


def _write(folder: Path) -> None:
    entries = read_ledger(folder / "ledger.jsonl")
    found = folder / "summary.json"
    write_whole(found, strict_json(found, summary(entries, RULE)))
    write_whole(folder / "README.md", page(entries, RULE).encode())
    print(f"{len(entries)} runs in {folder}")


if __name__ == "__main__":
    run_program(main)
