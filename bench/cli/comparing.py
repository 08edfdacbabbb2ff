"""From results that other tools wrote to the comparison of two arms."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.analysis.blocks import ROLES
from bench.analysis.checks import DEFAULT_BOUNDS
from bench.analysis.judgement import Case
from bench.analysis.metrics import METRICS, metric
from bench.analysis.runs import RunFigures, common_metrics, judge_runs
from bench.cli.conversion import record_notes, summary_notes, trial_of
from bench.config.config import new_run_id
from bench.config.options import Options
from bench.drivers.artifacts.reading import digest, read_runs
from bench.drivers.artifacts.run import ToolRun
from bench.errors import UserError
from bench.records import Role, ScenarioFacts, Trial
from bench.store import write_latest
from bench.store.files import write_whole
from reports.page import render_page
from reports.run import Run

_WARM_UP = re.compile(r"warm[-_ ]?up", re.IGNORECASE)
# A run with a smaller share of the median's requests had another purpose.
_REQUESTS_SHARE = 0.5
_UNLIKE = "or give --allow-unlike, and the report says it"
_SHOWN = 4
_NAME_CHARACTERS = 20

METHOD = (
    "The results were measured by another tool and are judged as they are: one run of it is one"
    " observation, whatever its number of requests. Where runs are known to belong together, the"
    " ratio of each pair counts; else the interval is Welch's, over the logarithms of the runs of"
    " both sides. Requests of one run are not independent, so they are never pooled for a verdict."
    " Whether the machine was quiet, and the tool in time, is not known."
)


@dataclass(frozen=True, slots=True)
class Side:
    """The runs of one arm, and the paths that were given for it."""

    role: Role
    name: str
    paths: tuple[Path, ...]
    runs: tuple[ToolRun, ...]

    def place(self, run: ToolRun) -> str:
        """A run's path below the path that was given."""
        above = next(one for one in self.paths if one == run.path or one in run.path.parents)
        return run.path.name if above == run.path else str(run.path.relative_to(above))


def compare_files(paths: Sequence[str], options: Options) -> Run:
    """The comparison of two files or folders, or of those of `--control` and `--treatment`.

    Raises UserError with one line where they are no results, or do not compare.
    """
    given = _given(paths, options)
    names = _names(given)
    found = {role: [read_runs(path) for path in given[role]] for role in ROLES}
    sides = [
        Side(role, names[role], given[role], tuple(run for one in found[role] for run in one.runs))
        for role in ROLES
    ]
    notes = [
        *_same_files(sides),
        *_likeness(sides, allow=options.allow_unlike),
        *_drift(sides),
        *_left_out(
            [file for side in found.values() for one in side for file in one.others],
            "hold no run of their own",
        ),
        *_left_out(
            [file for side in found.values() for one in side for file in one.repeated],
            "repeat or sum up what other files hold, and are left out",
        ),
    ]
    groups = _groups(sides, allow=options.allow_unlike)
    cases = [_case(group, how, options, tuple(notes)) for group, how in groups]
    return _run(sides, cases)


def write_report(run: Run, page: Path, latest: Path) -> None:
    """Write the page, and the figures in the form of `latest.json`. Raises UserError."""
    write_whole(page, render_page(run).encode())
    write_latest(latest, run.judgements, {**run.facts, "provenance": run.provenance})


def _given(paths: Sequence[str], options: Options) -> dict[Role, tuple[Path, ...]]:
    """The paths of both sides. Raises UserError unless each side has some, each once."""
    sides = {"control": options.control, "treatment": options.treatment}
    if options.run is not None:
        raise UserError("--run names a stored run, and files were given, too; give one of both")
    if paths and any(sides.values()):
        raise UserError("give two paths, A and B, or --control and --treatment, not both")
    if paths and len(paths) != len(ROLES):
        raise UserError(
            f"{len(paths)} paths given; give two, A and B, or more a side with --control PATH and"
            " --treatment PATH, each as often as needed"
        )
    given: dict[Role, tuple[Path, ...]] = (
        {role: (Path(path),) for role, path in zip(ROLES, paths, strict=True)}
        if paths
        else {role: sides[role] for role in ROLES}
    )
    for role, own in given.items():
        if not own:
            raise UserError(f"nothing was given for the {role}; give --{role} PATH, too")
        seen: set[Path] = set()
        for path in own:
            real = path.resolve()
            if real in seen or seen & set(real.parents):
                raise UserError(f"{path} is given twice for the {role}; a run counts once")
            seen.add(real)
    return given


def _names(given: Mapping[Role, tuple[Path, ...]]) -> dict[Role, str]:
    """The arms' names: those of their paths where they are single and differ."""
    if all(len(own) == 1 for own in given.values()):
        for parts in (1, 2, 3):
            ends = [
                (*path.parts[-parts:-1], path.stem if path.is_file() else path.name)
                for path in (own[0].resolve() for own in given.values())
            ]
            names = ["/".join(end)[-_NAME_CHARACTERS:] for end in ends]
            if len(set(names)) == len(ROLES):
                return dict(zip(ROLES, names, strict=True))
    return {role: role for role in ROLES}


def _same_files(sides: Sequence[Side]) -> Iterator[str]:
    """A note for files that are on both sides. Raises UserError for one that is twice on one."""
    files = []
    for side in sides:
        by_digest: dict[str, Path] = {}
        for path in dict.fromkeys(run.path for run in side.runs):
            content = digest(path)
            if content in by_digest:
                raise UserError(
                    f"{path} is the same as {by_digest[content]}, both of the {side.role}: a run"
                    " counts once; take one out"
                )
            by_digest[content] = path
        files.append(by_digest)
    if common := files[0].keys() & files[1].keys():
        shown = _list([str(files[0][one]) for one in common])
        yield f"on both sides there are the same files: {shown}; they do not differ from themselves"


def _likeness(sides: Sequence[Side], *, allow: bool) -> Iterator[str]:
    """A line for each way in which runs are unlike. Raises UserError if that is not allowed."""
    tools: dict[str, str] = {}
    for side in sides:
        for run in side.runs:
            tools.setdefault(run.tool, f"{run.path} is of {run.tool}")
    if len(tools) > 1:
        raise UserError(
            f"{'; '.join(tools.values())}: tools measure differently, so that their results do not"
            " compare; give results of one tool"
        )
    runs = [run for side in sides for run in side.runs]
    for unlike in (*_other_runs(sides), *_other_models(sides), *_other_lengths(sides)):
        if not allow:
            raise UserError(f"{unlike}; {_UNLIKE}")
        yield unlike
    if any(not run.models for run in runs):
        yield "which model was served is not in the files"
    versions = [_list({run.version or "unknown" for run in side.runs}) for side in sides]
    if versions[0] != versions[1] or "," in versions[0]:
        yield f"the tool's versions differ: {versions[0]} and {versions[1]}"


def _other_runs(sides: Sequence[Side]) -> Iterator[str]:
    """A line for a run that seems to be a warm-up: by its name, or its number of requests."""
    runs = [run for side in sides for run in side.runs]
    usual_of = {
        load: statistics.median(_sent(run) for run in runs if run.load == load)
        for load in dict.fromkeys(run.load for run in runs)
    }
    for side in sides:
        named = [run for run in side.runs if _WARM_UP.search(side.place(run))]
        for run in side.runs:
            usual = usual_of[run.load]
            if run in named and len(named) < len(side.runs):
                yield f"{run.path} is a warm-up by its name; take it out of the {side.role}"
            elif _sent(run) < _REQUESTS_SHARE * usual:
                yield (
                    f"{run.path} has {_sent(run)} requests, the median of its load is {usual:g}:"
                    f" a warm-up or another load; take it out of the {side.role}"
                )


def _sent(run: ToolRun) -> int:
    return run.requests + (run.failed or 0)


def _other_models(sides: Sequence[Side]) -> Iterator[str]:
    models = [{", ".join(run.models) for run in side.runs if run.models} for side in sides]
    if len(models[0] | models[1]) > 1:
        yield (
            f"models differ: control has {_list(models[0])}, treatment has {_list(models[1])};"
            " give results of one model"
        )


def _other_lengths(sides: Sequence[Side]) -> Iterator[str]:
    bound = DEFAULT_BOUNDS.answer_length
    lengths: tuple[tuple[str, Callable[[ToolRun], float | None]], ...] = (
        ("prompts", lambda run: run.prompt_tokens),
        ("answers", lambda run: run.answer_tokens),
    )
    runs = [run for side in sides for run in side.runs]
    for what, length in lengths:
        known = sorted((mean, str(run.path)) for run in runs if (mean := length(run)))
        if known and known[-1][0] > (1 + bound) * known[0][0]:
            (short, low), (long, high) = known[0], known[-1]
            yield (
                f"{what} differ: {short:.1f} tokens on average in {low}, {long:.1f} in {high},"
                f" bound {bound:.0%}; give runs of one load"
            )


def _drift(sides: Sequence[Side]) -> Iterator[str]:
    """A note where one side was measured before the other, by the files' times."""
    spans = []
    for side in sides:
        times = [(run.started_s, run.ended_s) for run in side.runs]
        known = [(start, end) for start, end in times if start is not None and end is not None]
        if len(known) < len(times):
            return
        spans.append((min(known)[0], max(end for _, end in known)))
    for first, second in ((0, 1), (1, 0)):
        if spans[first][1] <= spans[second][0]:
            yield (
                f"all runs of the {sides[first].role} were measured before those of the"
                f" {sides[second].role}: a drift of the machine cannot be told from a difference;"
                " measure them by turns"
            )
            return


def _left_out(files: Sequence[Path], why: str) -> Iterator[str]:
    if files:
        yield f"{len(files)} files {why}: {_list([one.name for one in files])}"


def _list(names: Sequence[str] | set[str]) -> str:
    """The first names, and how many more."""
    distinct = sorted(set(names))
    more = f", and {len(distinct) - _SHOWN} more" if len(distinct) > _SHOWN else ""
    return ", ".join(distinct[:_SHOWN]) + more


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
            f"{side.role} has {_list([*own])}" for side, own in zip(sides, loads, strict=True)
        )
        raise UserError(
            f"loads differ: {each}; give runs of the same loads on both sides, {_UNLIKE}"
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
    trials = _trials(sides) if recorded else {}
    runs = {
        side.role: [of_trial(trial) for trial in trials[side.role]]
        if recorded
        else [_of_report(run) for run in side.runs]
        for side in sides
    }
    metrics = common_metrics(runs, _primary(options.metric, sides, runs))
    if not metrics:
        raise UserError(_no_metric(runs))
    facts = ScenarioFacts(
        name=f"{first.tool}, {'; '.join(loads)}",
        primary=metrics[0],
        metrics=metrics,
        expect=options.expect,
        slos={},
    )
    tool_notes = record_notes(first.tool) if recorded else summary_notes(first.tool)
    judgement = judge_runs(
        facts,
        first.models or ("unknown-model",),
        {side.role: side.name for side in sides},
        runs,
        paired=bool(how),
        notes=(
            _pairing(sides, how),
            *notes,
            *_absent(runs),
            *_unread(sides),
            *tool_notes,
        ),
    )
    cancelled = [
        f"{run.path} was cancelled" for side in sides for run in side.runs if run.cancelled
    ]
    if cancelled:
        judgement = replace(judgement, invalid_reasons=(*cancelled, *judgement.invalid_reasons))
    return Case(judgement, tuple(trial for of_role in trials.values() for trial in of_role))


def _pairing(sides: Sequence[Side], how: str) -> str:
    counts = " and ".join(str(len(side.runs)) for side in sides)
    if min(len(side.runs) for side in sides) < 2:
        return f"{counts} runs: too few for an interval"
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
                    f"{run.path} does not have {name}; it has {_list([*figures.values])}: give"
                    " another --metric"
                )
    return name


def _no_metric(runs: Mapping[Role, list[RunFigures]]) -> str:
    names = {role: {name for one in own for name in one.values} for role, own in runs.items()}
    each = (f"{role} has {_list(own) or 'none'}" for role, own in names.items())
    return f"no metric is in all files: {'; '.join(each)}; give results with latencies or rates"


def _absent(runs: Mapping[Role, list[RunFigures]]) -> Iterator[str]:
    """A note on the metrics that only some runs have."""
    every = [one.values.keys() for of_role in runs.values() for one in of_role]
    some = set().union(*every) - set(every[0]).intersection(*every[1:])
    if some:
        yield f"not compared, for not all files have them: {_list(some)}"


def _unread(sides: Sequence[Side]) -> Iterator[str]:
    names = {name for side in sides for run in side.runs for name in run.unread}
    if names:
        yield f"{len(names)} figures of the files have no counterpart here: {_list(names)}"


def _trials(sides: Sequence[Side]) -> dict[Role, list[Trial]]:
    """A trial of each run, whose requests were recorded."""
    return {
        side.role: [
            trial_of(run, side.name, "compared", side.role, block)
            for block, run in enumerate(side.runs)
        ]
        for side in sides
    }


def of_trial(trial: Trial) -> RunFigures:
    """The metrics of a run by the definitions here, from its requests."""
    failed = sum(not one.ok for one in trial.samples)
    gaps = sum(max(0, len(one.chunk_s) - 1) for one in trial.samples)
    single = all(len(one.chunk_s) <= 2 for one in trial.samples)
    due = any(one.scheduled_s != one.sent_s for one in trial.samples)
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
            side.role.capitalize(): f"{len(side.runs)} runs of {', '.join(map(str, side.paths))}"
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
