"""`python -m bench watch`: whether a metric moved over the stored runs, and at which run.

Runs are comparable where the scenario, the models, the arms, the environment, the machine, the
profile and the driver are the same. Everything else may be what moved a metric: commits, engines,
options.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain

from bench.analysis.changes import FINDS, Move, State, Watched, watch
from bench.analysis.gates import EXIT_CODES, Outcome
from bench.analysis.judge import cases
from bench.analysis.judgement import Case
from bench.analysis.metrics import metric
from bench.config.options import Options
from bench.errors import UserError
from bench.progress import make_progress
from bench.records import Trial
from bench.store import TrialStore, by_scenario
from reports import wording
from reports.run import machine_of

_OUTCOMES: Mapping[State, Outcome] = {
    State.STEADY: Outcome.HELD,
    State.INSUFFICIENT: Outcome.UNDECIDED,
    State.MOVED: Outcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class Series:
    """What is comparable from run to run; `figure` is `ratio`, or the arm whose figure it is."""

    scenario: str
    models: tuple[str, ...]
    metric: str
    figure: str
    unit: str
    control: str | None
    treatment: str | None
    environment: str
    machine: str
    profile: str
    driver: str

    @property
    def title(self) -> str:
        """`heavy-tail · tiny-llama · Scheduled TTFT p95, ratio managed / baseline (...)`."""
        figure = self.figure
        if figure == "ratio":
            figure += f" {self.treatment} / {self.control}"
        where = ", ".join((self.environment, self.machine, self.profile, self.driver))
        metric = wording.metric(self.metric)
        return f"{self.scenario} · {', '.join(self.models)} · {metric}, {figure} ({where})"

    def shown(self, value: float) -> str:
        """A value of the series with its unit."""
        if self.figure == "ratio":
            return wording.factor(value)
        return wording.quantity(value, self.unit)


@dataclass(frozen=True, slots=True)
class Point:
    """The value that a series has from one run. The commit is that of the checkout, if known."""

    run: str
    commit: str | None
    value: float


History = dict[Series, list[Point]]


def watch_runs(options: Options, _: str) -> int:
    """Say which metrics moved over the stored runs, at which run and commit."""
    if options.metric is not None:
        metric(options.metric)  # one that there is
    runs = TrialStore(options.results).each_run(options.since or "")
    with make_progress().step("judging the stored runs"):
        series = histories(runs, options.metric, absolute=options.absolute)
    if not series:
        raise UserError(
            f"{options.results} has no valid comparison"
            f"{f' with metric {options.metric}' if options.metric else ''}"
            f"{f' since run {options.since}' if options.since else ''}: measure first"
        )
    found = {one: watch([point.value for point in points]) for one, points in series.items()}
    outcome = max((_OUTCOMES[one.state] for one in found.values()), key=list(Outcome).index)
    if options.format == "json":
        records = [_record(one, series[one], state) for one, state in found.items()]
        print(json.dumps({"outcome": outcome, "series": records}, indent=1))
    else:
        for one, state in found.items():
            print("\n  ".join((one.title, *_lines(one, series[one], state))))
        print(f"outcome: {outcome} ({_counted(found.values())})")
    passes = options.undecided == "pass" and outcome is Outcome.UNDECIDED
    return 0 if passes else EXIT_CODES[outcome]


def histories(runs: Iterable[Sequence[Trial]], name: str | None, *, absolute: bool) -> History:
    """The series of these runs, each with a point for each run that has one.

    They are of the primary metric, or of metric `name`: of its ratio, and with `absolute` also of
    each arm. Only first rounds count: a second one is measured only where the first failed.
    """
    series: History = {}
    for run in runs:
        for trials in by_scenario(run).values():
            if (first := trials[0]).round == 1:
                found = (_values(one, name, absolute=absolute) for one in cases(trials))
                for one, value in chain.from_iterable(found):
                    point = Point(first.run_id, first.provenance.get("commit"), value)
                    series.setdefault(one, []).append(point)
    return series


def _values(case: Case, name: str | None, *, absolute: bool) -> Iterator[tuple[Series, float]]:
    judgement, first = case.judgement, case.trials[0]
    name = name or judgement.scenario.primary
    if judgement.invalid_reasons:
        return
    figures = [
        ("ratio", "", one.ratio)
        for one in judgement.comparisons
        if one.metric == name and one.models == judgement.models and not one.tenant
    ]
    if absolute:
        figures += [
            (f"{one.role} {one.arm}", one.unit, one.value)
            for one in judgement.summaries
            if one.metric == name
        ]
    for figure, unit, value in figures:
        if value is not None and 0 < value < math.inf:
            series = Series(
                scenario=judgement.scenario.name,
                models=judgement.models,
                metric=name,
                figure=figure,
                unit=unit,
                control=judgement.control,
                treatment=judgement.treatment,
                environment=judgement.environment,
                machine=machine_of(first.provenance.get("environment", {})),
                profile=str(first.provenance.get("profile")),
                driver=first.driver.name,
            )
            yield series, value


def _lines(series: Series, points: Sequence[Point], seen: Watched) -> Iterator[str]:
    """What is known of a series: a line, or one for each move."""
    runs = wording.count(len(points), "run")
    finds = f"a move of {FINDS - 1:.0%}"
    if seen.state is State.INSUFFICIENT:
        yield f"{seen.state}: {runs}; about {seen.more} more until {finds} would be found"
    elif seen.state is State.STEADY and seen.finds is not None:
        yield f"{seen.state}: {runs}; a move of {seen.finds - 1:.0%} would have been found"
    for move in seen.moves:
        after, before = points[move.index], points[move.index - 1]
        yield (
            f"{seen.state} at run {after.run}, commit {_short(after.commit)}"
            f" (before it run {before.run}, commit {_short(before.commit)}):"
            f" {series.shown(move.before)} -> {series.shown(move.after)},"
            f" by a factor of {_interval(move)}"
        )


def _interval(move: Move) -> str:
    return f"{move.factor:.2f} [{move.low:.2f}, {move.high:.2f}]"


def _short(commit: str | None) -> str:
    return (commit or "unknown")[:12]


def _counted(found: Iterable[Watched]) -> str:
    states = [one.state for one in found]
    return ", ".join(f"{states.count(one)} {one}" for one in State if one in states)


def _record(series: Series, points: Sequence[Point], seen: Watched) -> dict[str, object]:
    """A series for programs: its moves name the first run after them."""
    moves = [
        {**asdict(move), "run": points[move.index].run, "commit": points[move.index].commit}
        for move in seen.moves
    ]
    values = [asdict(point) for point in points]
    return {**asdict(series), **asdict(seen), "moves": moves, "points": values}
