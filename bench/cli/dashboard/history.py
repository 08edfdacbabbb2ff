"""What there is to show, from names of files and one small JSON file a run: no table is read."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from itertools import chain, islice
from pathlib import Path
from urllib.parse import unquote

from bench.analysis.verdict import LOOKS
from bench.cli.review import started
from bench.drivers.artifacts.summary import REPORT_NAMES
from bench.store import TrialStore

BUILT_IN = "built-in"
UNKNOWN = "unknown"
# The benchmarks that can always be chosen; what else is found follows.
BENCHMARKS = (BUILT_IN, "genai-perf", "aiperf")
# Runs are so deep below the folder of results: arm, environment, run.
_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """A run that can be shown: trials stored under `root`, or the `report` of a tool.

    `run` is its name, unique in a history. `benchmark` is what sent its load, `begun` sorts by
    time.
    """

    root: Path
    run: str
    benchmark: str
    begun: str
    arms: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    report: Path | None = None

    @property
    def label(self) -> str:
        """`29 November 2026, 13:56 UTC · heavy-tail · baseline, managed · RUN`."""
        parts = (self.scenarios, self.arms)
        words = [", ".join(one) for one in parts if one] or [self.benchmark]
        return " · ".join((started(self.begun), *words, self.run))

    @property
    def row(self) -> dict[str, str]:
        """The run as a row of a table."""
        return {
            "begun": started(self.begun),
            "load by": self.benchmark,
            "scenarios": ", ".join(self.scenarios),
            "models": ", ".join(self.models),
            "arms": ", ".join(self.arms),
            "environment": ", ".join(self.environments),
            "run": self.run,
        }


def history(folders: Sequence[Path]) -> list[Entry]:
    """All runs in the folders and below, the latest first; a folder that is absent has none."""
    distinct = dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders)
    found = chain.from_iterable(map(_entries, distinct))
    by_place = {(one.report or one.root, one.run): one for one in found}
    latest = sorted(by_place.values(), key=lambda one: (one.begun, one.run), reverse=True)
    return list(_with_own_names(latest))


def is_complete(entry: Entry) -> bool:
    """Whether each comparison of a run has the blocks that a verdict needs, by names of files.

    A block in whose middle the run was stopped is none. Of a search, whose blocks differ in length,
    that shows if it was stopped within a trial.
    """
    trials: dict[tuple[str, ...], dict[tuple[int, int], tuple[str, Path]]] = {}
    for path in TrialStore(entry.root).paths(entry.begun):
        again, _, rest = path.stem.rpartition("block-")
        block, position, role = rest.split("-", 2)
        of_comparison = trials.setdefault((*path.parts[-3:-1], again), {})
        of_comparison[int(block), int(position)] = role, path
    return all(_whole_blocks(one) >= LOOKS[0] for one in trials.values())


def _whole_blocks(trials: Mapping[tuple[int, int], tuple[str, Path]]) -> int:
    """How many blocks have two trials of each arm, or any of an arm that was run alone."""
    counts = Counter((block, role) for (block, _), (role, _) in trials.items())
    roles = {role for role, _ in trials.values()}
    least = min(len(roles), 2)
    last = max(trials)
    stopped = {last[0]} if _was_cut_short(trials[last][1]) else set()
    blocks = {block for block, _ in trials} - stopped
    return sum(all(counts[block, role] >= least for role in roles) for block in blocks)


def _was_cut_short(trial: Path) -> bool:
    """Whether the run was stopped in the middle of a trial, by its JSON file."""
    try:
        return bool(json.loads(trial.read_bytes())["cut_short"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return True


def benchmarks(entries: Sequence[Entry]) -> list[str]:
    """What can be chosen as benchmark."""
    return list(dict.fromkeys((*BENCHMARKS, *sorted(one.benchmark for one in entries))))


def _with_own_names(entries: Sequence[Entry]) -> Iterator[Entry]:
    """The entries; one whose name another one has is named with its folder."""
    seen: set[str] = set()
    for one in entries:
        named = one if one.run not in seen else replace(one, run=f"{one.run} in {one.root}")
        seen.add(one.run)
        yield named


def _entries(root: Path) -> Iterator[Entry]:
    runs: dict[str, list[tuple[Path, list[Path]]]] = {}
    for path, below, files in os.walk(root):
        folder = Path(path)
        if len(folder.relative_to(root).parts) == _DEPTH and (cases := _cases(folder, below)):
            runs.setdefault(folder.name, []).append((folder, cases))
            below.clear()
        for name in files:
            if tool := next((tool for end, tool in REPORT_NAMES.items() if name.endswith(end)), ""):
                yield _of_report(root, folder / name, tool)
                # Parts of the same run, such as its warm-up.
                below[:] = [one for one in below if one != "phases"]
    yield from (_of_run(root, run, found) for run, found in runs.items())


def _cases(folder: Path, scenarios: Sequence[str]) -> list[Path]:
    """The folders of scenarios and models in that of a run which hold trials."""
    found = (
        Path(case.path)
        for scenario in sorted(scenarios)
        for case in os.scandir(folder / scenario)
        if case.is_dir()
    )
    return [one for one in found if _trial_in(one) is not None]


def _trial_in(case: Path) -> Path | None:
    """Any trial's JSON file."""
    with os.scandir(case) as files:
        names = (one.name for one in files if one.name.endswith(".json") and "block-" in one.name)
        return next((case / name for name in islice(names, 1)), None)


def _of_run(root: Path, run: str, found: Sequence[tuple[Path, list[Path]]]) -> Entry:
    cases = [case for _, of_arm in found for case in of_arm]
    trial = _trial_in(cases[0])
    models = (unquote(model) for case in cases for model in case.name.split("+"))
    return Entry(
        root=root,
        run=run,
        benchmark=UNKNOWN if trial is None else _benchmark(trial, trial.stat().st_mtime_ns),
        begun=run,
        arms=tuple(sorted({folder.parent.parent.name for folder, _ in found})),
        environments=tuple(dict.fromkeys(folder.parent.name for folder, _ in found)),
        scenarios=tuple(dict.fromkeys(case.parent.name for case in cases)),
        models=tuple(dict.fromkeys(models)),
    )


def _of_report(root: Path, path: Path, tool: str) -> Entry:
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    place = path.parent.relative_to(root.parent)
    return Entry(root, str(place), tool, f"{at:%Y%m%d-%H%M%S}", report=path)


@cache
def _benchmark(trial: Path, _mtime_ns: int) -> str:
    """What sent the load of a trial, by its JSON file."""
    try:
        name = str(json.loads(trial.read_bytes())["driver"]["name"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return UNKNOWN
    return BUILT_IN if name == "builtin" else name
