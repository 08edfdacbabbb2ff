"""Comparisons that take hours together: measured in several sittings, each kept in a ledger."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.analysis.judgement import Case
from bench.analysis.verdict import RULE
from bench.cli.scenarios import MODELS as KINDS_OF_MODELS
from bench.cli.scenarios import measured_scenarios
from bench.config.config import Config, git_commit
from bench.console import INTERRUPTED
from bench.environments.local.environment import make_environment
from bench.experiment.scenario import Scenario
from bench.experiment.session import Session
from bench.progress import Progress
from bench.records import Role, Trial
from validation.harness import ROOT

LEDGER = "ledger.jsonl"
MODELS = ("tiny-llama", "tiny-qwen", "tiny-mistral")
Thing = TypeVar("Thing")


def add_options(parser: argparse.ArgumentParser, folder: Path, made: str) -> None:
    """The options that all have; `made` says what is made of the ledger in `folder`."""
    parser.add_argument("--hours", type=float, metavar="H", help="end a sitting after so long")
    parser.add_argument(
        "--table", action="store_true", help=f"measure nothing, make the {made} again"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=folder,
        metavar="DIR",
        help=f"the ledger, and the {made} (default: {folder.relative_to(ROOT)})",
    )


def sitting(measure: Callable[[], None], write_pages: Callable[[], None]) -> int:
    """Measure, then write what is made of the ledger, also after Ctrl-C.

    Returns 0, or 130 after Ctrl-C.
    """
    try:
        measure()
    except KeyboardInterrupt:
        write_pages()
        print("interrupted; the next sitting goes on from here", file=sys.stderr)
        return INTERRUPTED
    write_pages()
    return 0


def until_over(waiting: Iterable[Thing], hours: float | None) -> Iterator[Thing]:
    """What is to be measured, one after the other, until the hours are over; all without them."""
    ends_s = math.inf if hours is None else time.monotonic() + 3600 * hours
    for one in waiting:
        if time.monotonic() > ends_s:
            return
        yield one


@dataclass(frozen=True, slots=True)
class Asked:
    """A scenario, and whether it measures all models at once."""

    scenario: Scenario
    of_all_models: bool


def asked_of(name: str) -> Asked:
    """What the tests of the scenario of that name measure."""
    (found,) = (one for one in measured_scenarios() if one.scenario.name == name)
    return Asked(found.scenario, found.models == KINDS_OF_MODELS["models"])


@dataclass(frozen=True, slots=True)
class Measured:
    """The first round of a comparison, by the roles of the treatments, and how long it took."""

    cases: Mapping[Role, Case]
    took_s: float


def compare(
    config: Config,
    scenario: Scenario,
    models: Sequence[str],
    progress: Progress,
    around: AbstractContextManager[None] | None = None,
) -> Measured:
    """Measure a scenario once, within `around`; the trials are not kept, and the engines stay up.

    Raises UserError.
    """
    config = replace(
        config,
        results=config.cache / "sittings" / config.run_id,
        options=replace(config.options, keep_env=True),
    )
    session = Session(
        config=config,
        compares=True,
        progress=progress,
        provenance={"seed": config.options.seed, "profile": config.profile.name},
        make_environment=lambda: make_environment(config, progress),
    )
    began_s = time.monotonic()
    try:
        with around or nullcontext():
            cases = session.first_round(scenario, tuple(models))
    finally:
        session.close()
        shutil.rmtree(config.results, ignore_errors=True)
    return Measured(cases, round(time.monotonic() - began_s, 1))


def facts_of(trial: Trial) -> dict[str, Any]:
    """Fields of an entry that say by what, and on what, it was measured."""
    environment, run_id = trial.provenance["environment"], trial.run_id
    return {
        "rule": RULE,
        "commit": git_commit(ROOT / ".git"),
        "machine": f"{environment.get('cpu', 'unknown CPU')}, {environment['usable_cores']} cores",
        "day": f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}",
    }
