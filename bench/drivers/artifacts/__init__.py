"""What aiperf and genai-perf leave in a folder, read into the suite's own records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.drivers.artifacts import aiperf, genai_perf
from bench.drivers.artifacts.summary import AIPERF, GENAI_PERF, ToolRun, read_summary
from bench.errors import UserError


def read_artifacts(folder: Path) -> ToolRun:
    """Read the one run in a folder, or below it. Raises UserError if there is none, or several."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give an artifact folder")
    found = sorted(path for end in (AIPERF, GENAI_PERF) for path in folder.rglob(f"*{end}"))
    if not found:
        raise UserError(
            f"{folder} holds neither profile_export{AIPERF} nor profile_export{GENAI_PERF}"
            " (or another name with that end); give the artifact folder of a finished run"
        )
    if len(found) > 1:
        shown = ", ".join(str(path.relative_to(folder)) for path in found[:3])
        raise UserError(
            f"{folder} holds {len(found)} runs ({shown}{', ...' if len(found) > 3 else ''}); give"
            " a folder with one of them"
        )
    (report,) = found
    run = read_summary(report)
    tool, end = (aiperf, AIPERF) if run.tool == "aiperf" else (genai_perf, GENAI_PERF)
    # The records are named like the report.
    named = report.name.removesuffix(end) + Path(tool.RECORDS).suffix
    records = report.with_name(named)
    return replace(run, entries=tool.read_records(records)) if records.exists() else run
