"""`python -m validation.load_generators`: measure the load generators that are installed, side by side."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench.config.topology import Model
from bench.console import Parser, exit_code, log_folder, run_program, whole_number
from bench.cores import pinned
from bench.environments.cpu_engine.models import model_folder
from bench.errors import UserError
from bench.progress import make_progress
from bench.store.files import strict_json, write_whole
from validation.load_generators.columns import METRICS, ONLY_INSTRUMENTS, remarks_of
from validation.load_generators.job import Job
from validation.load_generators.measurement import Measurement, measure, warm_up
from validation.load_generators.tools import OURS, Tool, known_tools
from validation.sidebyside.answers import MODEL
from validation.sidebyside.choice import absences, choose
from validation.sidebyside.figures import summarize
from validation.sidebyside.machine import busy_percent, busy_remarks, machine_facts
from validation.sidebyside.record import record_of
from validation.sidebyside.rounds import Round, run_rounds
from validation.sidebyside.running import Servers
from validation.sidebyside.table import render
from validation.sidebyside.tool import first_line

ROOT = Path(__file__).parents[2]
CHUNK_EVERY_MS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 after one line on stderr if that is not possible."""
    output = ROOT / "results" / "bench-load.json"
    return exit_code(lambda: compare(parser().parse_args(arguments), output))


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = Parser(
        prog="python -m validation.load_generators", description=__doc__, allow_abbrev=False
    )
    for option, default, what in (
        ("--rounds", 3, "rounds over all programs"),
        ("--streams", 96, "streams open at once"),
        ("--requests", 192, "streams in all, in each run"),
        ("--chunks", 1024, "events of a stream in the long run"),
    ):
        top.add_argument(
            option, type=whole_number, default=default, metavar="N", help=f"{what} ({default})"
        )
    top.add_argument("--only", metavar="A,B", help="programs to measure (default: all)")
    return top


def compare(options: argparse.Namespace, output: Path) -> None:
    """Measure what is present, print the table, write the record to `output` (JSON).

    Raises UserError for a program that is present and does not work.
    """
    chosen = choose(known_tools(ROOT), options.only)
    absent = {tool.name: tool.install for tool in chosen if tool.python is None}
    present = [tool for tool in chosen if tool.python is not None]
    if not present:
        raise UserError("no load generator to measure: " + "; ".join(absences(absent)))
    folder = log_folder(ROOT, "instruments")
    versions = {tool.name: first_line(tool.ask_version, folder / "version.log") for tool in present}
    source, *others = sorted(os.sched_getaffinity(0))
    cores = {"source": [source], "load": others or [source]}
    work = {name: getattr(options, name) for name in ("streams", "requests", "chunks")}
    facts = machine_facts(ROOT, cores) | work | {"chunk_every_ms": CHUNK_EVERY_MS}
    before = busy_percent()
    with pinned(cores["load"]), closing(Servers(ROOT, folder)) as servers:
        rounds = _measure(servers, source, present, folder, options)
    after = busy_percent()
    facts["busy_percent"] = {"before": before, "after": after}
    figures = summarize(rounds, METRICS, OURS)
    record = record_of(ONLY_INSTRUMENTS, facts, versions, absent, rounds, figures)
    write_whole(output, strict_json(output, record))
    remarks = (*busy_remarks(before, after), *absences(absent), *remarks_of(rounds, CHUNK_EVERY_MS))
    width = shutil.get_terminal_size((120, 24)).columns
    colour = sys.stdout.isatty()
    print(render(figures, METRICS, OURS, remarks, width=width, colour=colour), end="")


def _measure(
    servers: Servers,
    core: int,
    tools: Sequence[Tool],
    folder: Path,
    options: argparse.Namespace,
) -> list[Round[Measurement]]:
    source = servers.start_source(["127.0.0.1"], CHUNK_EVERY_MS, {core})
    job = Job(
        port=source.port,
        model=MODEL,
        tokenizer=model_folder(Model("tiny", "llama", None, None, 1), ROOT / ".cache"),
        folder=folder,
        streams=options.streams,
        requests=options.requests,
        chunks=options.chunks,
    )
    progress = make_progress()
    with progress.step("starting each program once") as step:
        for tool in tools:
            step.update(tool.name)
            warm_up(tool, job, ROOT)
    return run_rounds(tools, options.rounds, lambda tool: measure(tool, job, ROOT), progress)


if __name__ == "__main__":
    run_program(main)
