"""`python -m validation.cross_check`: do the tools agree on what one server does?"""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.console import Parser, exit_code, log_folder, run_program, whole_number
from bench.progress import make_progress
from bench.provenance import git_commit
from bench.store.files import strict_json, write_whole
from validation.cross_check.figures import summarize
from validation.cross_check.running import run_rounds, served, tools_for
from validation.cross_check.table import WHY, render
from validation.cross_check.work import Work

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 after one line on stderr if that is not possible."""

    def work() -> None:
        compare(parser().parse_args(arguments), ROOT / "results" / "cross-check.json")

    return exit_code(work)


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = Parser(prog="python -m validation.cross_check", description=__doc__, allow_abbrev=False)
    for name, default, text in (
        ("rounds", 3, "times that every tool does the work, in another order each time"),
        ("requests", 48, "of each tool and round"),
        ("concurrency", 4, "requests at once"),
        ("input-tokens", 128, "of a prompt, chat template included"),
        ("output-tokens", 64, "of an answer"),
    ):
        help_text = f"{text} (default: {default})"
        top.add_argument(
            f"--{name}", type=whole_number, default=default, metavar="N", help=help_text
        )
    top.add_argument("--model", default="tiny-llama", metavar="NAME")
    return top


def compare(options: argparse.Namespace, output: Path) -> None:
    """Measure, print the table, write everything to `output` (JSON)."""
    work = Work(
        options.model,
        options.concurrency,
        options.requests,
        options.input_tokens,
        options.output_tokens,
    )
    progress = make_progress()
    cache = ROOT / ".cache"
    logs = log_folder(ROOT, "cross-check")
    with served(work, cache, progress) as (environment, calibration):
        tools = tools_for(environment, cache, logs, progress)
        rounds = run_rounds(tools, work, options.rounds, calibration, progress)
        facts = dict(environment.facts())
    figures = summarize(rounds)
    record = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(ROOT / ".git"),
        "environment": facts,
        "work": asdict(work),
        "figures": {
            tool: {name: asdict(one) for name, one in row.items()} for tool, row in figures.items()
        },
        "differences": WHY,
        "rounds": rounds,
    }
    write_whole(output, strict_json(output, record))
    width = shutil.get_terminal_size((120, 24)).columns
    colour = sys.stdout.isatty()
    print(render(figures, work, len(rounds), width=width, colour=colour), end="")
    print(f"results: {output}")


if __name__ == "__main__":
    run_program(main)
