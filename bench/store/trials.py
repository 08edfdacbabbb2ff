"""The store of trials: written before anyone judges them, read back to judge again.

    <root>/<arm>/<environment>/<run>/<scenario>/<model+model>/block-00-0-control.json

and beside it the samples as `.parquet` and what the servers said as `.server.parquet`. Both
are written first, so that a JSON file on disk means a complete trial. Where a comparison was
measured once more, the second round's files begin with `again-`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from bench.errors import UserError
from bench.records import Trial
from bench.store import codec
from bench.store.files import strict_json, write_whole

SAFE_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class TrialStore:
    """Trials under one folder, `results/` as a rule."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, trial: Trial) -> Path:
        """Write a trial and return the path of its JSON file.

        Raises UserError for a name that is no safe part of a path, for numbers of the
        trial that are not finite, and when the disk does not take it.
        """
        path = self._folder(trial) / _name(trial)
        try:
            table, server = codec.table_bytes(trial), codec.server_bytes(trial)
        except ValueError as error:
            raise UserError(f"cannot write samples of {path}: {error}") from error
        facts = strict_json(path, codec.facts(trial, table, server))
        write_whole(path.with_suffix(".parquet"), table)
        write_whole(path.with_suffix(".server.parquet"), server)
        write_whole(path, facts)
        return path

    def load(self, path: Path) -> Trial:
        """Read one trial by its JSON file. Raises UserError for a damaged or foreign file."""
        facts = _facts(path)
        table = _table(path.with_suffix(".parquet"), path, facts.get("samples_sha256"))
        # Trials stored before servers were scraped name no such file.
        sha256 = facts.get("server_sha256")
        server = _table(path.with_suffix(".server.parquet"), path, sha256) if sha256 else None
        try:
            return codec.trial(facts, table, server)
        except (ValueError, pa.ArrowException) as error:
            raise UserError(f"{path} does not hold a trial: {_first_line(error)}") from error

    def load_run(self, run_id: str | None = None) -> list[Trial]:
        """All trials of a run, the latest one by default, in the order they were run.

        Raises UserError when there is no such run or one of its files is damaged.
        """
        runs = self._runs()
        if not runs:
            raise UserError(f"no stored trials under {self._root}; measure first")
        wanted = run_id or max(runs)
        if wanted not in runs:
            close = difflib.get_close_matches(wanted, runs, n=1) or [max(runs)]
            raise UserError(f"no run {wanted!r} under {self._root}; the closest is {close[0]!r}")
        trials = [self.load(path) for path in sorted(runs[wanted])]
        return sorted(
            trials,
            key=lambda one: (one.scenario.name, one.models, one.round, one.block, one.position),
        )

    def has_run(self, run_id: str) -> bool:
        """Whether any trial of a run is stored."""
        return run_id in self._runs()

    def _runs(self) -> dict[str, list[Path]]:
        """JSON files by run. Run ids sort by time."""
        runs: dict[str, list[Path]] = {}
        for path in self._root.glob("*/*/*/*/*/*block-*.json"):
            runs.setdefault(path.parts[-4], []).append(path)
        return runs

    def _folder(self, trial: Trial) -> Path:
        parts = (trial.arm, trial.environment, trial.run_id, trial.scenario.name)
        for part in (*parts, *trial.models):
            if not SAFE_PART.fullmatch(part):
                raise UserError(
                    f"name {part!r} cannot be a folder of results;"
                    " use letters, digits, dot, dash and underscore"
                )
        return self._root.joinpath(*parts, "+".join(trial.models))


def by_scenario(trials: Iterable[Trial]) -> dict[tuple[str, tuple[str, ...], int], list[Trial]]:
    """Trials that are judged together: those of a round of one scenario for the same models."""
    groups: dict[tuple[str, tuple[str, ...], int], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.scenario.name, trial.models, trial.round), []).append(trial)
    return groups


def _name(trial: Trial) -> str:
    again = "again-" if trial.round > 1 else ""
    return f"{again}block-{trial.block:02}-{trial.position}-{trial.role}.json"


def _table(path: Path, trial: Path, sha256: object) -> bytes:
    """A table that the trial's JSON file names by its digest."""
    table = _read(path)
    if codec.digest(table) != sha256:
        raise UserError(f"{path} is damaged: it is not the file that {trial.name} names")
    return table


def _facts(path: Path) -> dict[str, object]:
    try:
        facts = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {_first_line(error)}") from error
    if not isinstance(facts, dict) or facts.get("format") != codec.FORMAT:
        raise UserError(f"{path} is no trial in format {codec.FORMAT}; measure again")
    return facts


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
