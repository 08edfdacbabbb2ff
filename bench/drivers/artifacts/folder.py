"""A folder that aiperf or genai-perf has left: which one, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.drivers.artifacts import aiperf, genai_perf
from bench.drivers.artifacts.entry import Entry
from bench.drivers.artifacts.summary import AIPERF, GENAI_PERF, ToolSummary, read_summary
from bench.errors import UserError


@dataclass(frozen=True, slots=True)
class Artifacts:
    """A tool's own report, and each request if it has recorded them."""

    summary: ToolSummary
    entries: tuple[Entry, ...]


def read_artifacts(folder: Path) -> Artifacts:
    """Read a folder, or the only one of a run below it. Raises UserError with one line."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give an artifact folder")
    found = sorted(path for name in (AIPERF, GENAI_PERF) for path in folder.rglob(name))
    if not found:
        raise UserError(
            f"{folder} holds neither {AIPERF} nor {GENAI_PERF};"
            " give the artifact folder of a finished run"
        )
    if len(found) > 1:
        raise UserError(
            f"{folder} holds {len(found)} runs; give one of them, such as {found[0].parent}"
        )
    summary = read_summary(found[0])
    tool = aiperf if summary.tool == "aiperf" else genai_perf
    records = found[0].with_name(tool.RECORDS)
    return Artifacts(summary, tool.read_records(records) if records.exists() else ())
