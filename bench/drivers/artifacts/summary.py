"""Whole runs of aiperf and genai-perf: their JSON reports, with the records beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.drivers.artifacts import aiperf, genai_perf
from bench.drivers.artifacts.entry import Entry, damaged, read_text
from bench.errors import UserError
from bench.records import Slo

# The ends of reports' names; the beginning is an option of the tool.
AIPERF = "_aiperf.json"
GENAI_PERF = "_genai_perf.json"
KNOWN = "aiperf 0.8 to 0.13, genai-perf 0.0.8 to 0.0.16"
_TO_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "sec": 1.0, "s": 1.0}
_TO_BASE = {**_TO_S, "%": 0.01}
# Objectives by the names of the tools' metrics; both give them in milliseconds.
_OBJECTIVES = {
    "time_to_first_token": "ttft_s",
    "inter_token_latency": "tpot_s",
    "request_latency": "e2e_s",
}

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A run of a tool, by its own report, and its requests if they were recorded.

    `statistics` holds `avg`, `p50` and so on by metric, in seconds, shares, requests or
    tokens (per second). `output_tokens` is the length that every answer had to have; None if
    several were asked for, or an answer might end before. Of `concurrency` and `rate_rps` one
    is None, or both.
    """

    tool: str
    version: str | None
    models: tuple[str, ...]
    concurrency: int | None
    rate_rps: float | None
    output_tokens: int | None
    slo: Slo
    cancelled: bool
    statistics: Mapping[str, Mapping[str, float]]
    entries: tuple[Entry, ...] = ()

    def statistic(self, metric: str, name: str) -> float | None:
        """One number; None if the report does not have it."""
        return self.statistics.get(metric, {}).get(name)


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


def read_summary(path: Path) -> ToolRun:
    """Read a report. Raises UserError for a file of another kind or an unknown version."""
    try:
        # Tools write NaN where they have nothing to average, which is no JSON.
        report = json.loads(read_text(path), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    version = report.get("aiperf_version") if isinstance(report, dict) else None
    try:
        read = _aiperf if path.name.endswith(AIPERF) else _genai_perf
        summary: ToolRun = read(report, report["input_config"])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        written_by = f"aiperf {version} wrote it; " if version else ""
        raise damaged(path, f"{lacks} ({written_by}known are {KNOWN})") from error
    if not summary.statistics or not summary.models:
        raise damaged(path, f"it has no {'models' if summary.statistics else 'metrics'}")
    load = (summary.concurrency, summary.rate_rps)
    if not all(isinstance(one, int | float | None) for one in load):
        raise damaged(path, f"its load is {load[0]!r} or {load[1]!r}, no number")
    return summary


def _aiperf(report: Report, config: Report) -> ToolRun:
    """`config` has had its present form since some version after 0.8."""
    if "loadgen" in config:
        inputs = _part(config, "input")
        return _summary(
            "aiperf",
            report,
            models=config["endpoint"]["model_names"],
            load=config["loadgen"],
            length=_part(inputs, "prompt", "output_tokens"),
            extra=inputs.get("extra"),
            slo=_part(inputs, "goodput"),
            cancelled=report.get("was_cancelled"),
        )
    (phase,) = (one for one in config["phases"] if one["kind"] == "profiling")
    return _summary(
        "aiperf",
        report,
        models=[one["name"] for one in config["models"]["items"]],
        load={"concurrency": phase.get("concurrency"), "request_rate": phase.get("rate")},
        length=_part(config["datasets"][0], "prompts", "osl"),
        extra=_part(config, "endpoint", "extra"),
        slo=_part(config, "slos"),
        cancelled=report["was_cancelled"],
    )


def _genai_perf(report: Report, config: Report) -> ToolRun:
    if "perf_analyzer" in config:
        return _summary(
            "genai-perf",
            report,
            models=config["model_names"],
            load=config["perf_analyzer"]["stimulus"],
            length=config["input"]["output_tokens"],
            extra=config["input"].get("extra"),
            slo=_part(config, "input", "goodput"),
        )
    # Up to 0.0.13 the configuration was the command line's options.
    return _summary(
        "genai-perf",
        report,
        models=config["model"],
        load=config,
        length={name: config.get(f"output_tokens_{name}") for name in ("mean", "stddev")},
        extra=config.get("extra_inputs"),
        slo=_part(config, "goodput"),
    )


def _summary(
    tool: str,
    report: Report,
    *,
    models: Iterable[str],
    load: Report,
    length: Report,
    extra: object,
    slo: Report,
    cancelled: object = False,
) -> ToolRun:
    goals = {_OBJECTIVES[name]: ms / 1000 for name, ms in slo.items() if name in _OBJECTIVES}
    return ToolRun(
        tool=tool,
        version=report.get("aiperf_version"),
        models=tuple(map(_name, models)),
        concurrency=load.get("concurrency"),
        rate_rps=load.get("request_rate"),
        output_tokens=_fixed(length, extra),
        slo=Slo(**goals),
        cancelled=bool(cancelled),
        statistics=_statistics(report),
    )


def _part(config: Report, *names: str) -> Report:
    """The part below these names; empty where one is left out or null."""
    for name in names:
        config = config.get(name) or {}
    return config


def _statistics(report: Report) -> dict[str, dict[str, float]]:
    """Everything that has a unit, in base units. Raises ValueError for an unknown one of time."""
    return {
        name: {
            statistic: value * _factor(name, str(metric["unit"]))
            for statistic, value in metric.items()
            if isinstance(value, int | float)
        }
        for name, metric in report.items()
        if isinstance(metric, dict) and "unit" in metric
    }


def _factor(metric: str, unit: str) -> float:
    if metric in _OBJECTIVES and unit not in _TO_S:
        raise ValueError(f"{metric} is in {unit!r}, which is no unit of time")
    return _TO_BASE.get(unit, 1.0)


def _name(model: str) -> str:
    """A model's name with characters replaced that cannot be in a folder's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model).lstrip("._-") or "model"


def _fixed(length: Mapping[str, Any], extra: object) -> int | None:
    """The mean of a length in tokens if all answers must have that length; else None.

    `extra` are further parameters of requests, in any form: without `ignore_eos` a model may end
    its answer before.
    """
    mean = length.get("mean")
    fixed = "ignore_eos" in str(extra) and not length.get("stddev")
    return round(mean) if fixed and mean and mean > 0 else None
