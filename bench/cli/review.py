"""Judges a stored run, also for the summary at the end of a live one."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from bench.analysis.judge import cases, factorial_of
from bench.analysis.judgement import Case, Judgement, Verdict
from bench.analysis.verdict import blocks_to_decide
from bench.config.profiles import PROFILES
from bench.paths import MEASURE
from bench.records import Trial
from bench.store import TrialStore, by_scenario
from reports.run import Run, run_of

# Options of pytest that the advice sets; each has a value.
_GIVEN = ("-k", "--profile")


def review(store: TrialStore, run_id: str | None = None) -> list[Case]:
    """Every comparison of a run (default: the latest), judged again from its stored trials.

    Raises UserError when nothing is stored, or a file of the run is damaged.
    """
    return _cases(by_scenario(store.load_run(run_id)).values())


def stored_run(store: TrialStore, run_id: str | None = None) -> Run:
    """A stored run (default: the latest) as reports show it. Raises UserError like `review`."""
    groups = by_scenario(store.load_run(run_id)).values()
    found = _cases(groups)
    effects = (factorial_of(trials) for trials in groups)
    return run_of(
        found,
        started(found[0].trials[0].run_id),
        [one for one in effects if one is not None],
    )


def _cases(groups: Iterable[Sequence[Trial]]) -> list[Case]:
    found = (case for trials in groups for case in cases(trials))
    return [replace(one, judgement=_advised(one.judgement, one.trials[0])) for one in found]


def started(run_id: str) -> str:
    """When a run began, by its name: `31 January 2026, 23:59 UTC`; else the name itself."""
    try:
        began = datetime.datetime.fromisoformat(run_id[:15].replace("-", "T"))
    except ValueError:
        return run_id
    return f"{began:%d %B %Y, %H:%M} UTC"


def _advised(judgement: Judgement, trial: Trial) -> Judgement:
    """The judgement; if it is undecided, with a note on how many blocks would decide it."""
    primary = judgement.primary
    if primary is None or primary.verdict is not Verdict.INCONCLUSIVE:
        return judgement
    blocks = blocks_to_decide(judgement.effects, primary.alpha)
    measured = trial.provenance.get("profile")
    if blocks is None or blocks <= judgement.blocks or measured not in PROFILES:
        return judgement
    profile = profile_longer(measured, blocks)
    arguments = without(trial.provenance.get("arguments", ()), _GIVEN)
    only = trial.scenario.name.replace("-", "_")
    if len(trial.models) == 1:
        only += f" and {trial.models[0]}"
    command = shlex.join((MEASURE, *arguments, "-k", only, "--profile", profile))
    note = (
        f"undecided after {judgement.blocks} blocks: if it goes on alike, about"
        f" {blocks - judgement.blocks} more would decide; {command}"
    )
    return replace(judgement, notes=(*judgement.notes, note))


def profile_longer(name: str, blocks: int) -> str:
    """The first profile that lasts as long as so many blocks of profile `name`, or the last."""
    needed_s = blocks * PROFILES[name].trial_s
    for profile in PROFILES.values():
        if profile.looks[-1] * profile.trial_s >= needed_s:
            return profile.name
    return list(PROFILES)[-1]


def without(arguments: Sequence[str], options: Sequence[str]) -> Iterator[str]:
    """Arguments of a command line without some options and the values that follow them."""
    rest = iter(arguments)
    for one in rest:
        if one in options:
            next(rest, None)
        elif not one.startswith(tuple(f"{option}=" for option in options)):
            yield one
