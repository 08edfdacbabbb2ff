"""From results that other tools wrote to the comparison of two arms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench.analysis.judgement import Case
from bench.analysis.metrics import METRICS, metric
from bench.analysis.runs import RunFigures, common_metrics, judge_runs
from bench.cli.conversion import record_notes, summary_notes, trial_of
from bench.cli.sides import UNLIKE, Side, listed, read_sides, remarks
from bench.config.config import new_run_id
from bench.config.options import Options
from bench.drivers.artifacts.reading import digest
from bench.drivers.artifacts.run import ToolRun
from bench.errors import UserError
from bench.records import Role, ScenarioFacts, Trial
from bench.store import write_latest
from bench.store.files import write_whole
from reports import wording
from reports.page import render_page
from reports.run import Run

METHOD = (
    "The results were measured by another tool and are judged as they are: one run of it is one"
    " observation, whatever its number of requests. Where runs are known to belong together, the"
    " ratio of each pair counts; else the interval is Welch's, over the logarithms of the runs of"
    " both sides. Requests of one run are not independent, so they are never pooled for a verdict."
    " Whether the machine was quiet, and the tool in time, is not known."
)


def compare_files(paths: Sequence[str], options: Options) -> Run:
    """The comparison of two files or folders, or of those of `--control` and `--treatment`.

    Raises UserError with one line where they are no results, or do not compare.
    """
    try:
        sides = read_sides(paths, options)
        notes = tuple(remarks(sides, allow=options.allow_unlike))
        groups = _groups(sides, allow=options.allow_unlike)
        return _run(sides, [_case(group, how, options, notes) for group, how in groups])
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error


def require_files(options: Options) -> None:
    """Raise UserError for an option that has no effect on a stored run."""
    defaults = Options()
    given = ("metric", "expect", "allow_unlike")
    if names := [one for one in given if getattr(options, one) != getattr(defaults, one)]:
        flag = names[0].replace("_", "-")
        raise UserError(f"--{flag} is for result files, A and B; a stored run has its own")


def write_report(run: Run, folder: Path) -> str:
    """Write page and figures to `folder`; returns lines with their paths. Raises UserError."""
    page, latest = (folder / f"{run.facts['Run']}.{end}" for end in ("html", "json"))
    write_whole(page, render_page(run).encode())
    write_latest(latest, run.judgements, {**run.facts, "provenance": run.provenance})
    return f"report: {page}\nresults: {latest}\n"


def _groups(sides: Sequence[Side], *, allow: bool) -> list[tuple[list[Side], str]]:
    """The runs of each load, treatment and control of a pair at the same place; and by what.

    "" for runs that are not paired. Loads that each side has once are pairs of one group. Raises
    UserError where the sides' loads differ.
    """
    loads = [dict.fromkeys(run.load for run in side.runs) for side in sides]
    if allow:
        return [_pairs(sides)]
    if loads[0].keys() != loads[1].keys():
        each = "; ".join(
            f"{side.role} has {listed([*own])}" for side, own in zip(sides, loads, strict=True)
        )
        raise UserError(
            f"loads differ: {each}; give runs of the same loads on both sides, {UNLIKE}"
        )
    if len(loads[0]) > 1 and all(len(side.runs) == len(loads[0]) for side in sides):
        paired = _by("their loads", sides, lambda _, run: run.load)
        if paired is not None:
            return [paired]
    of_load = (
        [replace(side, runs=tuple(run for run in side.runs if run.load == load)) for side in sides]
        for load in loads[0]
    )
    return [_pairs(group) for group in of_load]


def _pairs(sides: Sequence[Side]) -> tuple[list[Side], str]:
    keys: tuple[tuple[str, Callable[[Side, ToolRun], str]], ...] = (
        ("the labels in the files", lambda _, run: run.pair),
        ("their names", lambda side, run: side.place(run)),
        ("the names of their folders", lambda side, run: str(Path(side.place(run)).parent)),
    )
    found = (_by(how, sides, key) for how, key in keys)
    return next((one for one in found if one is not None), (list(sides), ""))


def _by(
    how: str, sides: Sequence[Side], key: Callable[[Side, ToolRun], str]
) -> tuple[list[Side], str] | None:
    """The sides with their runs in the order of a key; None unless it pairs all, one to one."""
    keyed = [{key(side, run): run for run in side.runs} for side in sides]
    control, treatment = keyed
    whole = all(len(own) == len(side.runs) for own, side in zip(keyed, sides, strict=True))
    if not whole or control.keys() != treatment.keys() or "" in control or len(control) < 2:
        return None
    return [
        replace(side, runs=tuple(own[name] for name in sorted(control)))
        for side, own in zip(sides, keyed, strict=True)
    ], how


def _case(sides: Sequence[Side], how: str, options: Options, notes: tuple[str, ...]) -> Case:
    first = sides[0].runs[0]
    loads = list(dict.fromkeys(run.load for side in sides for run in side.runs))
    recorded = all(run.entries and not run.cancelled for side in sides for run in side.runs)
    trials = [
        trial_of(run, side.name, "compared", side.role, block)
        for side in sides
        for block, run in enumerate(side.runs if recorded else ())
    ]
    runs = {
        side.role: [_of_trial(trial) for trial in trials if trial.role == side.role]
        or [_of_report(run) for run in side.runs]
        for side in sides
    }
    metrics = common_metrics(runs, _primary(options.metric, sides, runs))
    if not metrics:
        raise UserError(_no_metric(runs))
    facts = ScenarioFacts(
        name=loads[0] if len(loads) == 1 else f"{len(loads)} loads",
        primary=metrics[0],
        metrics=metrics,
        expect=options.expect,
        slos={},
    )
    tool_notes = record_notes(first.tool) if recorded else summary_notes(first.tool)
    judgement = judge_runs(
        facts,
        first.models or ("unknown model",),
        {side.role: side.name for side in sides},
        runs,
        paired=bool(how),
        notes=(_pairing(sides, how), *notes, *_absent(runs), *_unread(sides), *tool_notes),
    )
    cancelled = [
        f"{run.path} was cancelled" for side in sides for run in side.runs if run.cancelled
    ]
    if cancelled:
        judgement = replace(judgement, invalid_reasons=(*cancelled, *judgement.invalid_reasons))
    return Case(judgement, tuple(trials))


def _pairing(sides: Sequence[Side], how: str) -> str:
    counts = " and ".join(str(len(side.runs)) for side in sides)
    if min(len(side.runs) for side in sides) < 2:
        return f"{counts} runs (control and treatment) are too few for an interval"
    if how:
        return f"{len(sides[0].runs)} pairs of runs, by {how}: the ratio of each pair is one value"
    return f"{counts} runs, no pairs known: the interval is Welch's over the logarithms of runs"


def _primary(
    name: str | None, sides: Sequence[Side], runs: Mapping[Role, list[RunFigures]]
) -> str | None:
    """The metric that was asked for. Raises UserError if it is unknown, or not in all runs."""
    if name is None:
        return None
    metric(name)
    for side in sides:
        for run, figures in zip(side.runs, runs[side.role], strict=True):
            if name not in figures.values:
                raise UserError(
                    f"{run.path} does not have {name}; it has {listed([*figures.values])}: give"
                    " another --metric"
                )
    return name


def _no_metric(runs: Mapping[Role, list[RunFigures]]) -> str:
    names = {role: {name for one in own for name in one.values} for role, own in runs.items()}
    each = (f"{role} has {listed(own) or 'none'}" for role, own in names.items())
    return f"no metric is in all files: {'; '.join(each)}; give results with latencies or rates"


def _absent(runs: Mapping[Role, list[RunFigures]]) -> Iterator[str]:
    """A note on the metrics that only some runs have."""
    every = [one.values.keys() for of_role in runs.values() for one in of_role]
    some = set().union(*every) - set(every[0]).intersection(*every[1:])
    if some:
        yield f"not compared, for not all files have them: {listed(some)}"


def _unread(sides: Sequence[Side]) -> Iterator[str]:
    names = {name for side in sides for run in side.runs for name in run.unread}
    if names:
        yield f"{len(names)} figures of the files have no counterpart here: {listed(names)}"


def _of_trial(trial: Trial) -> RunFigures:
    """The metrics of a run by the definitions here, from its requests."""
    failed = sum(not one.ok for one in trial.samples)
    gaps = sum(max(0, len(one.chunk_s) - 1) for one in trial.samples)
    single = all(len(one.chunk_s) <= 2 for one in trial.samples)
    due = trial.offered_rps is not None and any(
        one.scheduled_s != one.sent_s for one in trial.samples
    )
    left_out = (*(("itl",) if single else ()), *(() if due else ("scheduled",)))
    values = {
        name: value
        for name, one in METRICS.items()
        if not name.startswith(left_out) and (value := one.over([trial])) is not None
    }
    return RunFigures(values, len(trial.samples) - failed, failed, gaps)


def _of_report(run: ToolRun) -> RunFigures:
    gaps = round(run.requests * max(0.0, (run.answer_tokens or 1) - 1))
    return RunFigures(run.values, run.requests, run.failed, gaps)


def _run(sides: Sequence[Side], cases: Sequence[Case]) -> Run:
    runs = [run for side in sides for run in side.runs]
    first = runs[0]
    version = f" {first.version}" if first.version else ""
    files = {
        side.role: [{"file": str(run.path), "sha256": digest(run.path)} for run in side.runs]
        for side in sides
    }
    facts = {
        "Tool": f"{first.tool}{version}",
        "Models": ", ".join(first.models) or "not known",
        **{
            side.role.capitalize(): f"{wording.count(len(side.runs), 'run')} of"
            f" {', '.join(map(str, side.paths))}"
            for side in sides
        },
        "Run": new_run_id(),
    }
    return Run(
        cases=tuple(cases),
        when=_when(runs),
        setup=f"Results of {first.tool}{version}; the servers are not known",
        facts=facts,
        provenance={"tool": first.tool, "version": first.version, "files": files},
        method=METHOD,
    )


def _when(runs: Sequence[ToolRun]) -> str:
    """The time of the runs in words, by their own clock."""
    known = [at_s for run in runs for at_s in (run.started_s, run.ended_s) if at_s is not None]
    if not known:
        return "at a time that the files do not have"
    start, end = (datetime.fromtimestamp(at_s, UTC) for at_s in (min(known), max(known)))
    last = f"{end:%H:%M}" if start.date() == end.date() else f"{end:%d %B %Y, %H:%M}"
    return f"{start:%d %B %Y, %H:%M} to {last}, by the files"
