"""Judge a stored run again: what a live run prints comes from here as well."""

from __future__ import annotations

from bench.analysis.judge import Judgement, judge
from bench.records import Trial
from bench.store import TrialStore, by_scenario


def review(store: TrialStore, run_id: str | None = None) -> list[tuple[Judgement, list[Trial]]]:
    """Every scenario of a run (default: the latest) with its judgement and its trials.

    Raises UserError when nothing is stored, or a file of the run is damaged.
    """
    groups = by_scenario(store.load_run(run_id)).values()
    return [(judge(trials), trials) for trials in groups]
