"""Command line: `python -m reports generate` makes the Allure report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.console import run_program
from bench.errors import UserError
from bench.progress import make_progress
from reports.generate import generate


def parser() -> argparse.ArgumentParser:
    """The command and its options."""
    top = argparse.ArgumentParser(prog="python -m reports")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("generate", help="make the Allure report from Allure results")
    places = (
        ("--results", "FOLDER", "allure-results", "what pytest wrote"),
        ("--output", "FOLDER", "allure-report", "where the report goes"),
        ("--history", "FILE", "results/allure-history.jsonl", "runs so far; this one is added"),
    )
    for option, kind, default, what in places:
        text = f"{what} (default: %(default)s)"
        make.add_argument(option, type=Path, metavar=kind, default=Path(default), help=text)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Make the report; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        page = generate(options.results, options.output, options.history, make_progress())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"report: {page} (open it in a browser; README.md tells how to read a verdict)")
    return 0


if __name__ == "__main__":
    run_program(main)
