"""The two sides of a comparison of result files: what was given, and whether it compares."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.analysis.blocks import ROLES
from bench.analysis.checks import DEFAULT_BOUNDS
from bench.config.options import Options
from bench.drivers.artifacts.reading import Found, digest, read_runs
from bench.drivers.artifacts.run import ToolRun
from bench.errors import UserError
from bench.records import Role

_WARM_UP = re.compile(r"warm[-_ ]?up", re.IGNORECASE)
# A run with a smaller share of the median's requests had another purpose.
_REQUESTS_SHARE = 0.5
# Seconds are 1000 milliseconds; so much may differ by itself.
_UNITS = 300.0
UNLIKE = "or give --allow-unlike, and the report says it"
_SHOWN = 4
_NAME_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class Side:
    """The runs of one arm, and the paths that were given for it, with what is in them."""

    role: Role
    name: str
    paths: tuple[Path, ...]
    found: tuple[Found, ...]
    runs: tuple[ToolRun, ...]

    def place(self, run: ToolRun) -> str:
        """A run's path below the path that was given."""
        above = next(one for one in self.paths if one == run.path or one in run.path.parents)
        return run.path.name if above == run.path else str(run.path.relative_to(above))


def read_sides(paths: Sequence[str], options: Options) -> list[Side]:
    """Both sides, control first. Raises UserError unless each has results, each once."""
    given = _given(paths, options)
    names = _names([*given.values()])
    sides = []
    for (role, own), name in zip(given.items(), names, strict=True):
        found = tuple(map(read_runs, own))
        runs = tuple(run for one in found for run in one.runs)
        sides.append(Side(role, name or role, own, found, runs))
    return sides


def remarks(sides: Sequence[Side], *, allow: bool) -> Iterator[str]:
    """What is to be said of both sides. Raises UserError where they do not compare.

    With `allow` models, loads and lengths may differ, and that is said.
    """
    yield from _same_files(sides)
    _one_tool(sides)
    for unlike in (*_other_runs(sides), *_other_models(sides), *_other_sizes(sides)):
        if not allow:
            raise UserError(f"{unlike}; {UNLIKE}")
        yield unlike
    if not all(run.models for side in sides for run in side.runs):
        yield "which model was served is not in the files"
    versions = [listed({run.version or "unknown" for run in side.runs}) for side in sides]
    if versions[0] != versions[1] or "," in versions[0]:
        yield f"the tool's versions differ: {versions[0]} and {versions[1]}"
    yield from _drift(sides)
    found = [one for side in sides for one in side.found]
    left_out = {
        "hold no run of their own": [path.name for one in found for path in one.others],
        "repeat or sum up what other files hold": [
            path.name for one in found for path in one.repeated
        ],
    }
    yield from (f"{len(own)} files {why}: {listed(own)}" for why, own in left_out.items() if own)


def _given(paths: Sequence[str], options: Options) -> dict[Role, tuple[Path, ...]]:
    given: dict[Role, tuple[Path, ...]] = {
        "control": options.control,
        "treatment": options.treatment,
    }
    if options.run is not None:
        raise UserError("--run names a stored run, and files were given, too; give one of both")
    if paths and any(given.values()):
        raise UserError("give two paths, A and B, or --control and --treatment, not both")
    if paths and len(paths) != len(ROLES):
        raise UserError(
            f"compare takes two paths, A and B, seen {len(paths)}; give more a side with --control"
            " PATH and --treatment PATH, each as often as needed"
        )
    for role, typed in zip(ROLES, paths, strict=False):
        given[role] = (Path(typed),)
    for role, own in given.items():
        if not own:
            raise UserError(f"nothing was given for the {role}; give --{role} PATH, too")
        for place, path in enumerate(own):
            others = [Path(os.path.realpath(one)) for one in (*own[:place], *own[place + 1 :])]
            real = Path(os.path.realpath(path))
            if any(real == one or one in real.parents for one in others):
                raise UserError(f"{path} is given twice for the {role}; a run counts once")
    return given


def _names(given: Sequence[tuple[Path, ...]]) -> tuple[str, str]:
    """The names of single paths, with as many folders as make them differ; else empty ones."""
    places = [Path(os.path.realpath(own[0])) for own in given if len(own) == 1]
    for parts in (1, 2, 3) if len(places) == len(ROLES) else ():
        ends = ["/".join((*one.parts[-parts:-1], one.name.removesuffix(".json"))) for one in places]
        control, treatment = (end[-_NAME_CHARACTERS:] for end in ends)
        if control != treatment:
            return control, treatment
    return "", ""


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
        shown = listed([str(files[0][one]) for one in common])
        yield f"on both sides there are the same files: {shown}; they do not differ from themselves"


def _one_tool(sides: Sequence[Side]) -> None:
    tools: dict[str, str] = {}
    for run in (run for side in sides for run in side.runs):
        tools.setdefault(run.tool, f"{run.path} is of {run.tool}")
    if len(tools) > 1:
        raise UserError(
            f"{'; '.join(tools.values())}: tools measure differently, so that their results do not"
            " compare; give results of one tool"
        )


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
            f"models differ: control has {listed(models[0])}, treatment has {listed(models[1])};"
            " give results of one model"
        )


def _other_sizes(sides: Sequence[Side]) -> Iterator[str]:
    """A line for lengths that differ, and for latencies of which some seem to be milliseconds."""
    lengths = 1 + DEFAULT_BOUNDS.answer_length
    sizes: tuple[tuple[str, float, Callable[[ToolRun], float | None]], ...] = (
        ("mean tokens of a prompt", lengths, lambda run: run.prompt_tokens),
        ("mean tokens of an answer", lengths, lambda run: run.answer_tokens),
        ("seconds of ttft_p50_s", _UNITS, lambda run: run.values.get("ttft_p50_s")),
        ("seconds of tpot_p50_s", _UNITS, lambda run: run.values.get("tpot_p50_s")),
        ("seconds of e2e_p50_s", _UNITS, lambda run: run.values.get("e2e_p50_s")),
    )
    runs = [run for side in sides for run in side.runs]
    for what, bound, size in sizes:
        known = sorted((one, str(run.path)) for run in runs if (one := size(run)))
        if known and known[-1][0] > bound * known[0][0]:
            (small, low), (large, high) = known[0], known[-1]
            remedy = "are both in the same unit?" if bound == _UNITS else "give runs of one load"
            yield f"{what} differ: {small:.4g} in {low} and {large:.4g} in {high}: {remedy}"


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


def listed(names: Collection[str]) -> str:
    """The first names, and how many more."""
    distinct = sorted(set(names))
    more = f", and {len(distinct) - _SHOWN} more" if len(distinct) > _SHOWN else ""
    return ", ".join(distinct[:_SHOWN]) + more
