"""What aiperf and genai-perf say of a whole run in their JSON reports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.drivers.artifacts.reading import damaged, read_text
from bench.records import Slo

AIPERF = "profile_export_aiperf.json"
GENAI_PERF = "profile_export_genai_perf.json"
_TO_BASE = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "sec": 1.0, "%": 0.01}
# Objectives by the names of the tools' metrics; both give them in milliseconds.
_OBJECTIVES = {
    "time_to_first_token": "ttft_s",
    "inter_token_latency": "tpot_s",
    "request_latency": "e2e_s",
}


@dataclass(frozen=True, slots=True)
class ToolSummary:
    """A tool's own report.

    `statistics` holds `avg`, `p50` and so on by metric, in seconds, shares, requests or
    tokens (per second). `output_tokens` is the length of answer that was asked for, None
    if several were. Of `concurrency` and `rate_rps` one is None, or both.
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

    def statistic(self, metric: str, name: str) -> float | None:
        """One number; None if the tool does not tell it."""
        return self.statistics.get(metric, {}).get(name)


def read_summary(path: Path) -> ToolSummary:
    """Read a report. Raises UserError for a file of another kind."""
    try:
        report = orjson.loads(read_text(path))
        config = report["input_config"]
        read = _aiperf if path.name == AIPERF else _genai_perf
        summary: ToolSummary = read(report, config)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    except (LookupError, TypeError, AttributeError) as error:
        raise damaged(path, f"it lacks {error}") from error
    if not summary.statistics:
        raise damaged(path, "it has no metrics")
    return summary


def _aiperf(report: dict[str, Any], config: dict[str, Any]) -> ToolSummary:
    (phase,) = (one for one in config["phases"] if one["kind"] == "profiling")
    return ToolSummary(
        tool="aiperf",
        version=str(report["aiperf_version"]),
        models=tuple(_name(one["name"]) for one in config["models"]["items"]),
        concurrency=phase.get("concurrency"),
        rate_rps=phase.get("rate"),
        output_tokens=_fixed(config["datasets"][0].get("prompts", {}).get("osl", {})),
        slo=_slo(config.get("slos") or {}),
        cancelled=bool(report["was_cancelled"]),
        statistics=_statistics(report),
    )


def _genai_perf(report: dict[str, Any], config: dict[str, Any]) -> ToolSummary:
    stimulus = config["perf_analyzer"]["stimulus"]
    return ToolSummary(
        tool="genai-perf",
        version=None,
        models=tuple(map(_name, config["model_names"])),
        concurrency=stimulus.get("concurrency"),
        rate_rps=stimulus.get("request_rate"),
        output_tokens=_fixed(config["input"]["output_tokens"]),
        slo=_slo(config["input"].get("goodput") or {}),
        cancelled=False,
        statistics=_statistics(report),
    )


def _statistics(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Everything that has a unit, in base units."""
    return {
        name: {
            statistic: value * _TO_BASE.get(metric["unit"], 1.0)
            for statistic, value in metric.items()
            if isinstance(value, int | float)
        }
        for name, metric in report.items()
        if isinstance(metric, dict) and "unit" in metric
    }


def _name(model: str) -> str:
    """A model's name with what a folder's name cannot hold replaced."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model)


def _fixed(length: Mapping[str, Any]) -> int | None:
    """The mean of a length in tokens that does not vary."""
    mean = length.get("mean")
    return round(mean) if mean and mean > 0 and not length.get("stddev") else None


def _slo(objectives: Mapping[str, float]) -> Slo:
    known = {_OBJECTIVES[name]: ms / 1000 for name, ms in objectives.items() if name in _OBJECTIVES}
    return Slo(**known)
