"""`python -m validation evidence`: measure how often the rule is right, in several sittings.

What is missing in docs/evidence/ledger.jsonl is measured, run by run, on an otherwise idle
machine; Ctrl-C, or --hours, ends a sitting, and the next one goes on. Nothing is measured twice
under one version of the rule.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from bench.analysis.judgement import Judgement
from bench.analysis.verdict import RULE, spread_of
from bench.config.config import Config, git_commit, new_run_id, resolve
from bench.config.options import Options
from bench.environments.local import LocalEnvironment, stop_kept
from bench.experiment.scenario import Scenario
from bench.experiment.session import Session
from bench.progress import Progress, make_progress
from bench.records import Trial
from bench.store.files import strict_json, write_whole
from validation.evidence.ledger import (
    MODELS,
    LedgerEntry,
    PlannedRun,
    missing,
    planned_runs,
)
from validation.evidence.summary import TITLES, page, summary
from validation.harness import ROOT
from validation.ledger import append, read_ledger, sitting, until_over

FOLDER = ROOT / "docs" / "evidence"
NEIGHBOUR = Path(__file__).with_name("neighbour.py")
NEIGHBOUR_SHARE = 0.15


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--hours", type=float, metavar="H", help="end a sitting after so long")
    parser.add_argument(
        "--only", choices=tuple(TITLES), metavar="KIND", help=f"one of {', '.join(TITLES)}"
    )
    parser.add_argument(
        "--table", action="store_true", help="measure nothing, make the page and the summary again"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="ledger, summary and page (default: docs/evidence)",
    )


def measure_missing(options: argparse.Namespace) -> int:
    """Measure until nothing is missing or the hours are over; make the page and the summary.

    Returns 0, or 130 after Ctrl-C, when both are made as well. Raises UserError.
    """
    return sitting(
        lambda: None if options.table else _measure(options), lambda: write_pages(options.folder)
    )


def write_pages(folder: Path) -> None:
    """Make the summary and the page of the docs from the ledger in `folder`."""
    entries = read_ledger(folder / "ledger.jsonl", LedgerEntry)
    found = folder / "summary.json"
    write_whole(found, strict_json(found, summary(entries, RULE)))
    with make_progress().step("making the page"):
        write_whole(folder / "README.md", page(entries, RULE).encode())
    print(f"{len(entries)} runs in {folder}")


def _measure(options: argparse.Namespace) -> None:
    ledger = options.folder / "ledger.jsonl"
    planned = [run for run in planned_runs() if options.only in (None, run.kind)]
    waiting = missing(planned, read_ledger(ledger, LedgerEntry), RULE)
    progress = make_progress()
    try:
        for index, run in enumerate(until_over(waiting, options.hours)):
            done = len(planned) - len(waiting) + index
            progress.note(f"run {done + 1} of {len(planned)}: {run.key}")
            entry = measure(run, progress)
            append(ledger, [entry])
            progress.note(f"{run.key}: {entry.verdict} {entry.ratio} in {entry.took_s:.0f} s")
    finally:
        stop_kept(ROOT / ".cache", progress)


def measure(run: PlannedRun, progress: Progress) -> LedgerEntry:
    """Measure one run. The engines stay up for the next one."""
    config = _config(run)
    session = Session(
        config=config,
        compares=True,
        progress=progress,
        provenance={"seed": run.seed, "profile": run.profile},
        make_environment=lambda: LocalEnvironment(
            config.cache, config.topology, progress, keep=True
        ),
    )
    began_s = time.monotonic()
    try:
        with _neighbour(run.seed) if run.neighbour else nullcontext():
            one = session.first_round(_scenario(run.scenario), (run.model,))["treatment"]
    finally:
        session.close()
        shutil.rmtree(config.results, ignore_errors=True)
    took_s = time.monotonic() - began_s
    return _entry(run, one.judgement, one.trials, took_s)


def _config(run: PlannedRun) -> Config:
    options = Options(
        models=MODELS,
        arms=(run.control, run.treatment),
        profile=run.profile,
        seed=run.seed,
        keep_env=True,
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
    return replace(config, results=config.cache / "evidence" / config.run_id)


def _scenario(name: str) -> Scenario:
    """The scenario that the tests of that name measure."""
    module = importlib.import_module(f"tests.scenarios.test_{name.replace('-', '_')}")
    scenario = module.SCENARIO
    assert isinstance(scenario, Scenario)
    return scenario


@contextmanager
def _neighbour(seed: int) -> Iterator[None]:
    command = [sys.executable, "-I", "-S", str(NEIGHBOUR), str(NEIGHBOUR_SHARE), str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE):  # leaving it closes the input
        yield


def _entry(
    run: PlannedRun,
    judgement: Judgement,
    trials: Sequence[Trial],
    took_s: float,
) -> LedgerEntry:
    primary = judgement.primary
    assert primary is not None
    environment = trials[0].provenance["environment"]
    speeds = [
        rps
        for trial in trials
        for rps in (trial.capacity_rps, trial.capacity_after_rps)
        if rps is not None
    ]
    return LedgerEntry(
        run=run,
        rule=RULE,
        commit=git_commit(ROOT / ".git"),
        machine=f"{environment.get('cpu', 'unknown CPU')}, {environment['usable_cores']} cores",
        day=f"{trials[0].run_id[:4]}-{trials[0].run_id[4:6]}-{trials[0].run_id[6:8]}",
        took_s=round(took_s, 1),
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
