"""The store of trials: written before anyone judges them, read back to judge again.

    <root>/<arm>/<environment>/<run>/<scenario>/<model+model>/block-00-0-control.json

has the facts. Beside it are two Parquet tables: the samples, `.parquet`, and what the servers
reported, `.server.parquet`; their columns are the fields of the records. Both are written first,
so that a JSON file on disk means a complete trial. Where a comparison was measured once more,
the second round's files begin with `again-`.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, get_args, get_origin, get_type_hints
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from bench.errors import UserError
from bench.records import Sample, ServerReading, Trial, role_number
from bench.store.files import strict_json, write_whole

SAFE_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A model's name with what is not safe in it quoted, as in `meta-llama%2FLlama-3.1-8B`.
_SAFE_MODEL = re.compile(r"[A-Za-z0-9%][A-Za-z0-9._%~-]*")
FORMAT = 1

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
_TRIAL = TypeAdapter(Trial)
# The fields of a trial that are in tables.
_IN_TABLES = ("samples", "bypassed", "server")


class TrialStore:
    """Trials under one folder, `results/` as a rule."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, trial: Trial) -> Path:
        """Write a trial and return the path of its JSON file.

        Raises UserError for a name that is no safe part of a path, for numbers of the trial that
        are not finite, and when it cannot be written.
        """
        again = "again-" if trial.round > 1 else ""
        name = f"{again}block-{trial.block:02}-{trial.position}-{trial.role}.json"
        path = self._folder(trial) / name
        try:
            samples, server = _samples_table(trial), _server_table(trial)
        except ValueError as error:  # text that is not Unicode
            raise UserError(f"cannot write samples of {path}: {error}") from error
        bare = asdict(replace(trial, samples=(), bypassed=(), server=()))
        digests = {"samples_sha256": digest(samples), "server_sha256": digest(server)}
        # Trials of runs without them are as they were before there were any.
        left_out = (*_IN_TABLES, *(name for name in ("levels", "memory") if not bare[name]))
        facts = {name: value for name, value in bare.items() if name not in left_out}
        written = strict_json(path, {"format": FORMAT, **digests, **facts})
        write_whole(path.with_suffix(".parquet"), samples)
        write_whole(path.with_suffix(".server.parquet"), server)
        write_whole(path, written)
        return path

    def load(self, path: Path) -> Trial:
        """Read one trial by its JSON file. Raises UserError for a damaged or foreign file."""
        facts = _facts(path)
        samples = _table(path.with_suffix(".parquet"), path, facts.get("samples_sha256"))
        # Trials stored before servers were scraped name no such file.
        sha256 = facts.get("server_sha256")
        server = _table(path.with_suffix(".server.parquet"), path, sha256) if sha256 else None
        try:
            return _trial(facts, samples, server)
        except (ValueError, OSError, pa.ArrowException) as error:
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
        return self._trials(runs[wanted])

    def each_run(self, since: str = "") -> Iterator[list[Trial]]:
        """The trials of each run from `since` on, as `load_run` gives them, the oldest run first.

        Raises UserError when a file is damaged.
        """
        for run_id, paths in sorted(self._runs().items()):
            if run_id >= since:
                yield self._trials(paths)

    def _trials(self, paths: Iterable[Path]) -> list[Trial]:
        return sorted(
            map(self.load, paths),
            key=lambda one: (one.scenario.name, one.models, one.round, one.block, one.position),
        )

    def latest_run(self) -> str:
        """The name of the latest run that has a folder; empty if there is none."""
        return max((path.name for path in self._root.glob("*/*/*-*-*")), default="")

    def has_run(self, run_id: str) -> bool:
        """Whether any trial of a run is stored."""
        return bool(self.paths(run_id))

    def paths(self, run_id: str) -> list[Path]:
        """The JSON files of a run's trials by name; empty where none is stored."""
        return sorted(self._root.glob(f"*/*/{glob.escape(run_id)}/*/*/*block-*.json"))

    def _runs(self) -> dict[str, list[Path]]:
        """JSON files by run. Run ids sort by time."""
        runs: dict[str, list[Path]] = {}
        for path in self._root.glob("*/*/*/*/*/*block-*.json"):
            runs.setdefault(path.parts[-4], []).append(path)
        return runs

    def _folder(self, trial: Trial) -> Path:
        parts = (trial.arm, trial.environment, trial.run_id, trial.scenario.name)
        models = [quote(name, safe="") for name in trial.models]
        unsafe = [part for part in parts if not SAFE_PART.fullmatch(part)]
        unsafe += [name for name in models if not _SAFE_MODEL.fullmatch(name)]
        if unsafe:
            raise UserError(
                f"name {unsafe[0]!r} cannot be a folder of results;"
                " use letters, digits, dot, dash and underscore"
            )
        return self._root.joinpath(*parts, "+".join(models))


def by_scenario(trials: Iterable[Trial]) -> dict[tuple[str, tuple[str, ...], int], list[Trial]]:
    """Trials by what is judged together: scenario, models and round."""
    groups: dict[tuple[str, tuple[str, ...], int], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.scenario.name, trial.models, trial.round), []).append(trial)
    return groups


def _table(path: Path, trial: Path, sha256: object) -> bytes:
    """A table that the trial's JSON file names by its digest. Raises UserError for another one."""
    table = _read(path)
    if digest(table) != sha256:
        raise UserError(f"{path} is damaged: it is not the file that {trial.name} names")
    return table


def _facts(path: Path) -> dict[str, object]:
    try:
        facts = json.loads(_read(path), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {_first_line(error)}") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise UserError(f"{path} is no trial in format {FORMAT}; measure again")
    return facts


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def digest(table: bytes) -> str:
    """The SHA-256 by which a trial's JSON file names a table."""
    return hashlib.sha256(table).hexdigest()


def _samples_table(trial: Trial) -> bytes:
    bypassed = [False] * len(trial.samples) + [True] * len(trial.bypassed)
    return _parquet(Sample, trial.samples + trial.bypassed, "bypassed", bypassed, pa.bool_())


def _server_table(trial: Trial) -> bytes:
    """All server readings, those of a replica one after the other."""
    readings = [reading for one in trial.server for reading in one.readings]
    replicas = [one.replica for one in trial.server for _ in one.readings]
    return _parquet(ServerReading, readings, "replica", replicas, pa.string())


def _trial(facts: dict[str, object], table: bytes, server: bytes | None) -> Trial:
    """A stored trial; `server` is None before readings were stored. Raises ValueError."""
    samples: dict[bool, list[Any]] = {False: [], True: []}
    for row in _rows(table):
        # Trials stored before any request could bypass an arm lack the column.
        samples[row.pop("bypassed", False)].append(row)
    readings: dict[str, list[Any]] = {}
    for row in _rows(server) if server is not None else ():
        readings.setdefault(row.pop("replica", None), []).append(row)
    series = [{"replica": name, "readings": rows} for name, rows in readings.items()]
    tables = {"samples": samples[False], "bypassed": samples[True], "server": series}
    trial = _TRIAL.validate_python(_with_objectives(facts) | tables)
    for role in (trial.role, *trial.due):
        role_number(role)
    return trial


def _with_objectives(facts: dict[str, object]) -> dict[str, object]:
    """The facts of a trial; the first ones that were stored had the same objectives for all."""
    scenario, models = facts.get("scenario"), facts.get("models")
    if not (isinstance(scenario, dict) and "slo" in scenario and isinstance(models, list)):
        return facts
    return facts | {
        "scenario": scenario | {"slos": dict.fromkeys(map(str, models), scenario["slo"])}
    }


def _column(kind: Any) -> pa.DataType:
    """Arrow's type for a field: numbers, text, either or None, a tuple of one of them."""
    if get_origin(kind) is tuple:
        return pa.list_(_column(get_args(kind)[0]))
    (kind,) = (one for one in get_args(kind) or (kind,) if one is not NoneType)
    return _TYPES[str if issubclass(kind, StrEnum) else kind]


def _parquet(
    record: type, rows: Sequence[Any], extra: str, values: Sequence[Any], kind: pa.DataType
) -> bytes:
    """A table with the fields of records, and one more column that says whose they are."""
    columns = {
        name: pa.array([getattr(row, name) for row in rows], _column(hint))
        for name, hint in get_type_hints(record).items()
    }
    columns[extra] = pa.array(values, kind)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _rows(table: bytes) -> list[dict[str, Any]]:
    # On threads of Arrow's own, 2 of 100 processes were aborted at their end by its destructors.
    read = pq.ParquetFile(io.BytesIO(table), pre_buffer=False).read(use_threads=False)
    rows: list[dict[str, Any]] = read.to_pylist()
    return rows
