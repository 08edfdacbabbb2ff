"""From files and folders to the runs of load generators, recognised by what is in them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from bench.drivers.artifacts import guidellm, inference_perf, llmd, sglang, summary, vllm_bench
from bench.drivers.artifacts.entry import damaged, read_text, read_yaml
from bench.drivers.artifacts.run import Report, ToolRun, nonsense
from bench.errors import UserError

_READERS: tuple[ModuleType, ...] = (vllm_bench, sglang, guidellm, inference_perf, llmd, summary)
KNOWN = "; ".join(reader.KNOWN for reader in _READERS)
LARGEST_MB = 512
_REPORT_YAML = (
    re.compile(r"^version:", re.MULTILINE),
    re.compile(r"^scenario:", re.MULTILINE),
)
_SHOWN = 3


_Number = Annotated[float, Field(ge=0, le=1e12)]


class _Plain(BaseModel, from_attributes=True):
    """What the fields of a run must be, whatever a file has in their place."""

    version: str | None
    uid: str
    pair: str
    requests: _Number
    failed: _Number | None
    concurrency: _Number | None
    rate_rps: _Number | None
    prompt_tokens: _Number | None
    answer_tokens: _Number | None
    duration_s: _Number | None
    started_s: _Number | None
    ended_s: _Number | None


@dataclass(frozen=True, slots=True)
class Found:
    """The runs in a file or folder, in the order of their paths.

    `others` are files that hold no run, and `repeated` the parts or sums of runs that have a
    file of their own.
    """

    runs: tuple[ToolRun, ...]
    others: tuple[Path, ...] = ()
    repeated: tuple[Path, ...] = ()


def read_runs(path: Path) -> Found:
    """The runs in a file, or in a folder and below. Raises UserError if there is none."""
    try:
        whole = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        exists = path.is_dir() or path.is_file()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not exists:
        raise UserError(f"{path} is no file and no folder; give a result file, or a folder of some")
    by_file = {one: tuple(_runs(one)) for one in whole}
    runs = [run for of_file in by_file.values() for run in of_file]
    others = tuple(one for one, of_file in by_file.items() if not of_file)
    if not runs:
        raise UserError(f"{path} holds no result: {_seen(others)}; known are {KNOWN}")
    kept = _distinct(runs)
    return Found(
        runs=tuple(kept),
        others=others,
        repeated=tuple(
            dict.fromkeys(run.path for run in runs if all(run is not one for one in kept))
        ),
    )


def _seen(files: tuple[Path, ...]) -> str:
    if not files:
        return "the folder is empty"
    shown = ", ".join(one.name for one in files[:_SHOWN])
    more = ", ..." if len(files) > _SHOWN else ""
    return f"{len(files)} {'file' if len(files) == 1 else 'files'} ({shown}{more})"


def _distinct(runs: list[ToolRun]) -> list[ToolRun]:
    """The runs without sums of several, and without parts of a run, which are below it."""
    single = [run for run in runs if not run.pooled] or runs
    whole: dict[str, Path] = {}
    for run in sorted(single, key=lambda one: len(one.path.parts)):
        whole.setdefault(run.uid, run.path)
    return [
        run
        for run in single
        if not run.uid
        or run.path == whole[run.uid]
        or whole[run.uid].parent not in run.path.parent.parents
    ]


def _runs(path: Path) -> Iterator[ToolRun]:
    """The runs in one file; none if it is of no known tool. Raises UserError if it is damaged."""
    for report in _reports(path):
        reader = next((one for one in _READERS if one.recognises(report)), None)
        if reader is None:
            return  # lines of single requests, too, which may end in the middle of one
        yield from _read(reader, report, path)


def _read(reader: ModuleType, report: Report, path: Path) -> list[ToolRun]:
    try:
        return [_checked(replace(run, path=path)) for run in reader.read(report, path)]
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))} {first['msg']}"
    except KeyError as error:
        why = f"it lacks {error}"
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        why = str(error)
    version = report.get("aiperf_version")
    wrote = f"aiperf {version} wrote it; " if version else ""
    raise damaged(path, f"{why} ({wrote}known are {reader.KNOWN})")


def _checked(run: ToolRun) -> ToolRun:
    """The run with finite values only. Raises UserError for values that cannot be."""
    _Plain.model_validate(run)
    known = {name: value for name, value in run.values.items() if value is not None}
    finite = {name: value for name, value in known.items() if math.isfinite(value)}
    lost = tuple(f"{name} (not finite)" for name in known if name not in finite)
    if not run.requests:  # latencies of none are written as 0
        finite = {name: value for name, value in finite.items() if not name.endswith("_s")}
    checked = replace(run, values=finite, unread=(*run.unread, *lost))
    if why := nonsense(checked):
        raise damaged(run.path, why)
    return checked


def _reports(path: Path) -> Iterator[Report]:
    """The objects in a file of JSON, lines of JSON, or YAML; none in a file of another kind."""
    if not str(path).isprintable():
        raise UserError(f"{str(path)!r} cannot be shown as it is; rename it")
    expected = path.suffix in (".json", ".jsonl", ".yaml", ".yml")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not head and expected:
        raise damaged(path, "it is empty")
    if size > LARGEST_MB * 10**6:
        raise UserError(
            f"{path} has {size / 1e6:,.0f} MB, at most {LARGEST_MB} are read; let the tool write a"
            " result without single requests, or take it out of the folder"
        )
    if b"\0" in head:
        if expected:
            raise damaged(path, "it is binary")
    elif head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        yield from _json(path)
    else:
        text = path.read_text("utf-8", errors="replace")
        if all(key.search(text) for key in _REPORT_YAML):
            yield _yaml(path, text)


def _json(path: Path) -> Iterator[Report]:
    text = read_text(path).lstrip()
    try:
        first, end = json.JSONDecoder().raw_decode(text)
        yield first
        for line in text[end:].split("\n"):
            if line.strip():
                yield json.loads(line)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"{error}; was it written to its end?") from error


def _yaml(path: Path, text: str) -> Report:
    try:
        report = read_yaml(text)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not isinstance(report, dict):
        raise damaged(path, "it is no mapping")
    return report


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return sha256(path.read_bytes()).hexdigest()
