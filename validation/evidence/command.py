"""`python -m validation evidence`: measure how often the rule is right, in several sittings.

What is missing in docs/evidence/ledger.jsonl is measured, run by run, on an otherwise idle
machine; Ctrl-C, or --hours, ends a sitting, and the next one goes on. Nothing is measured twice
under one version of the rule.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.analysis.judgement import Case
from bench.analysis.verdict import RULE, spread_of
from bench.config.config import Config, new_run_id, resolve
from bench.config.options import Options
from bench.environments.local import stop_kept
from bench.progress import Progress, make_progress
from bench.store.files import strict_json, write_whole
from validation import sittings
from validation.evidence.ledger import LedgerEntry, PlannedRun, missing, planned_runs
from validation.evidence.summary import TITLES, page, summary
from validation.harness import ROOT
from validation.ledger import append, read_ledger

FOLDER = ROOT / "docs" / "evidence"
NEIGHBOUR = Path(__file__).with_name("neighbour.py")
NEIGHBOUR_SHARE = 0.15


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--only", choices=tuple(TITLES), metavar="KIND", help=f"one of {', '.join(TITLES)}"
    )
    sittings.add_options(parser, FOLDER, "summary and the page")


def measure_missing(options: argparse.Namespace) -> int:
    """Measure until nothing is missing or the hours are over; make the page and the summary.

    Returns 0, or 130 after Ctrl-C, when both are made as well. Raises UserError.
    """
    return sittings.sitting(
        lambda: None if options.table else _measure(options), lambda: write_pages(options.folder)
    )


def write_pages(folder: Path) -> None:
    """Make the summary and the page of the docs from the ledger in `folder`."""
    entries = read_ledger(folder / sittings.LEDGER, LedgerEntry)
    found = folder / "summary.json"
    write_whole(found, strict_json(found, summary(entries, RULE)))
    with make_progress().step("making the page"):
        write_whole(folder / "README.md", page(entries, RULE).encode())
    print(f"{len(entries)} runs in {folder}")


def _measure(options: argparse.Namespace) -> None:
    ledger = options.folder / sittings.LEDGER
    planned = [run for run in planned_runs() if options.only in (None, run.kind)]
    waiting = missing(planned, read_ledger(ledger, LedgerEntry), RULE)
    progress = make_progress()
    try:
        for index, run in enumerate(sittings.until_over(waiting, options.hours)):
            done = len(planned) - len(waiting) + index
            progress.note(f"run {done + 1} of {len(planned)}: {run.key}")
            entry = measure(run, progress)
            append(ledger, [entry])
            progress.note(f"{run.key}: {entry.verdict} {entry.ratio} in {entry.took_s:.0f} s")
    finally:
        stop_kept(ROOT / ".cache", progress)


def measure(run: PlannedRun, progress: Progress) -> LedgerEntry:
    """Measure one run. The engines stay up for the next one."""
    around = _neighbour(run.seed) if run.neighbour else None
    scenario = sittings.asked_of(run.scenario).scenario
    measured = sittings.compare(_config(run), scenario, (run.model,), progress, around)
    return _entry(run, measured.cases["treatment"], measured.took_s)


def _config(run: PlannedRun) -> Config:
    options = Options(
        models=sittings.MODELS,
        arms=(run.control, run.treatment),
        profile=run.profile,
        seed=run.seed,
    )
    config = resolve(options, ROOT, new_run_id())
    if run.slowed_by:
        # The same balancer at another port, before replicas with less of their core.
        slowed = replace(
            config.arms["treatment"],
            name=f"{run.treatment}-slowed",
            port=1 + max(arm.port for arm in config.topology.arms.values()),
            slowed=1 - run.slowed_by,
        )
        arms = {**config.topology.arms, slowed.name: slowed}
        config = replace(
            config,
            arms={**config.arms, "treatment": slowed},
            topology=replace(config.topology, arms=arms),
        )
    return config


@contextmanager
def _neighbour(seed: int) -> Iterator[None]:
    command = [sys.executable, "-I", "-S", str(NEIGHBOUR), str(NEIGHBOUR_SHARE), str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE):  # leaving it closes the input
        yield


def _entry(run: PlannedRun, case: Case, took_s: float) -> LedgerEntry:
    judgement, trials = case.judgement, case.trials
    primary = judgement.primary
    assert primary is not None
    speeds = [
        rps
        for trial in trials
        for rps in (trial.capacity_rps, trial.capacity_after_rps)
        if rps is not None
    ]
    return LedgerEntry(
        run=run,
        **sittings.facts_of(trials[0]),
        took_s=took_s,
        verdict=str(primary.verdict),
        ratio=primary.ratio,
        low=primary.low,
        high=primary.high,
        blocks=judgement.blocks,
        set_aside=sum("is set aside" in note for note in judgement.notes),
        spread=spread_of(judgement.effects),
        capacity_rps=(min(speeds), max(speeds)) if speeds else None,
        reasons=judgement.invalid_reasons,
    )
