"""From an entry of the history to its figures. A file is read again only when it has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from bench.analysis.judge import cases
from bench.analysis.judgement import Case, Summary
from bench.analysis.metrics import METRICS
from bench.cli.dashboard.history import Entry
from bench.drivers.artifacts.reading import read_runs
from bench.drivers.artifacts.run import ToolRun
from bench.records import Trial
from bench.store import TrialStore, by_scenario
from reports.dashboard.figures import LATENCIES, PERCENTILES, Series, series_of, with_success

# Trials, cases and reports that are kept in memory.
_TRIALS, _RUNS = 2000, 32
_RATES = ("throughput_rps", "output_tps", "error_rate")
_STATISTICS = (*(f"p{percent}" for percent in PERCENTILES), "mean")

# A file, and when it was changed.
Version = tuple[Path, int]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an entry has: its arms and, of trials that are stored, its cases."""

    series: tuple[Series, ...]
    cases: tuple[Case, ...] = ()


def load(entry: Entry) -> Loaded:
    """The figures of an entry. Raises UserError for a damaged file."""
    if entry.report is not None:
        return _report(entry, _version(entry.report))
    found = cases_of(versions(entry))
    judgements = [case.judgement for case in found]
    return Loaded(tuple(series_of(entry.run, entry.benchmark, judgements)), found)


def versions(entry: Entry) -> tuple[Version, ...]:
    """The trials of a stored run that are complete by now."""
    run_id = entry.begun  # its name may have its folder in it
    return tuple(map(_version, TrialStore(entry.root).paths(run_id)))


@lru_cache(maxsize=_RUNS)
def cases_of(files: tuple[Version, ...]) -> tuple[Case, ...]:
    """The comparisons of a run, judged from its trials with all metrics that are shown.

    Values are the same as in other reports: medians over blocks. Raises UserError for a damaged
    file.
    """
    groups = by_scenario(_trials(files)).values()
    return tuple(case for group in groups for case in cases(_measured_more(group)))


def latest_case(found: Sequence[Case], files: Sequence[Version]) -> Case:
    """The comparison whose trial was stored last."""
    last = _arm_in_block(_latest(files))
    return next(case for case in found if last in map(_arm_in_block, case.trials))


def latest_trials(files: Sequence[Version]) -> Sequence[Trial]:
    """The trials of all arms that are judged together with the one that was stored last."""
    last = _latest(files)
    return by_scenario(_trials(files))[last.scenario.name, last.models, last.round]


def _trials(files: Iterable[Version]) -> list[Trial]:
    return sorted((_trial(*one) for one in files), key=_order)


def _latest(files: Sequence[Version]) -> Trial:
    return _trial(*max(files, key=lambda one: one[1]))


@lru_cache(maxsize=_TRIALS)
def _trial(path: Path, _mtime_ns: int) -> Trial:
    return TrialStore(path.parent).load(path)


def _order(trial: Trial) -> tuple[object, ...]:
    return (trial.scenario.name, trial.models, trial.round, trial.block, trial.position)


def _arm_in_block(trial: Trial) -> tuple[object, ...]:
    """What a trial has alike in the pair that is judged: roles and positions are others there."""
    return (trial.scenario.name, trial.models, trial.round, trial.block, trial.arm)


def _measured_more(trials: Iterable[Trial]) -> Sequence[Trial]:
    """The trials, with all metrics that are shown among those of their scenario."""
    shown = (*_RATES, *(f"{one}_{kind}_s" for one in LATENCIES for kind in _STATISTICS))
    return [
        replace(
            one,
            scenario=replace(
                one.scenario, metrics=tuple(dict.fromkeys((*one.scenario.metrics, *shown)))
            ),
        )
        for one in trials
    ]


def _version(path: Path) -> Version:
    return path, path.stat().st_mtime_ns


@lru_cache(maxsize=_RUNS)
def _report(entry: Entry, version: Version) -> Loaded:
    """The statistics of a tool's report, as it has computed them."""
    runs = read_runs(version[0]).runs
    return Loaded(tuple(_series(entry, one) for one in runs))


def _series(entry: Entry, run: ToolRun) -> Series:
    summaries = {
        name: Summary("control", run.tool, name, METRICS[name].unit, value, run.requests)
        for name, value in run.values.items()
        if name in METRICS
    }
    case = f"{run.load} · {', '.join(run.models)}"
    return Series(entry.run, entry.benchmark, run.tool, "external", {case: with_success(summaries)})
