"""Whole runs of aiperf and genai-perf: their JSON reports, with the records beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.drivers.artifacts import aiperf, genai_perf
from bench.drivers.artifacts.run import TO_S, Report, ToolRun, beside, latencies, models_of
from bench.records import Slo

# The ends of reports' names; the beginning is an option of the tool.
_AIPERF = "_aiperf.json"
_GENAI_PERF = "_genai_perf.json"
REPORT_NAMES = {_AIPERF: "aiperf", _GENAI_PERF: "genai-perf"}
KNOWN = "aiperf 0.8 to 0.13, genai-perf 0.0.8 to 0.0.16"
_TO_BASE = {**TO_S, "%": 0.01}
# The tools' names for what the metrics here are named after.
_LATENCIES = {
    "time_to_first_token": "ttft",
    "inter_token_latency": "tpot",
    "request_latency": "e2e",
    "inter_chunk_latency": "itl",
}
_RATES = {
    "request_throughput": "throughput_rps",
    "output_token_throughput": "output_tps",
    "goodput": "goodput_rps",
    "request_goodput": "goodput_rps",
    "request_error_rate": "error_rate",
}
_COUNTS = (
    *("request_count", "benchmark_duration", "input_sequence_length", "output_sequence_length"),
    *("usage_prompt_tokens", "usage_completion_tokens"),
)
# Objectives by the names of the tools' metrics; both give them in milliseconds.
_OBJECTIVES = {
    "time_to_first_token": "ttft_s",
    "inter_token_latency": "tpot_s",
    "request_latency": "e2e_s",
}


def recognises(report: Report) -> bool:
    """Whether this is a report of aiperf or genai-perf."""
    return "input_config" in report


def read(report: Report, path: Path) -> Iterator[ToolRun]:
    """The run of a report, with the records beside it, which are named like it."""
    tool = "aiperf" if "aiperf_version" in report else "genai-perf"
    summary = (_aiperf if tool == "aiperf" else _genai_perf)(report, report["input_config"])
    if not summary.values or not summary.models:
        raise ValueError(f"it has no {'models' if summary.values else 'metrics'}")
    load = (summary.concurrency, summary.rate_rps)
    if not all(isinstance(one, int | float | None) for one in load):
        raise ValueError(f"its load is {load[0]!r} or {load[1]!r}, no number")
    module, end = (aiperf, _AIPERF) if tool == "aiperf" else (genai_perf, _GENAI_PERF)
    records = path.with_name(path.name.removesuffix(end) + Path(module.RECORDS).suffix)
    known = records != path and records.exists()
    yield replace(summary, entries=module.read_records(records)) if known else summary


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
    statistics = _statistics(report)

    def mean(*names: str) -> float | None:
        """The mean of the first of these that has a finite one."""
        means = (statistics.get(name, {}).get("avg", math.nan) for name in names)
        return next(filter(math.isfinite, means), None)

    rates = {_RATES[name]: statistics[name].get("avg") for name in _RATES if name in statistics}
    answered = round(mean("request_count") or 0)
    share = mean("request_error_rate")
    return ToolRun(
        tool=tool,
        version=report.get("aiperf_version"),
        models=models_of(*models),
        concurrency=load.get("concurrency"),
        rate_rps=load.get("request_rate"),
        output_tokens=_fixed(length, extra),
        slo=Slo(**goals),
        cancelled=bool(cancelled),
        values=latencies(statistics, _LATENCIES, TO_S["s"]) | rates,
        requests=answered,
        failed=None if share is None or share >= 1 else round(answered * share / (1 - share)),
        prompt_tokens=mean("usage_prompt_tokens", "input_sequence_length"),
        answer_tokens=mean("usage_completion_tokens", "output_sequence_length"),
        duration_s=mean("benchmark_duration"),
        started_s=_time_s(report.get("start_time")),
        ended_s=_time_s(report.get("end_time")),
        uid=report.get("benchmark_id") or "",
        unread=beside(statistics, _LATENCIES, _RATES, _COUNTS),
    )


def _time_s(text: str | None) -> float | None:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() if text else None


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
    if metric in _LATENCIES and unit not in TO_S:
        raise ValueError(f"{metric} is in {unit!r}, which is no unit of time")
    return _TO_BASE.get(unit, 1.0)


def _fixed(length: Mapping[str, Any], extra: object) -> int | None:
    """The mean of a length in tokens if all answers must have that length; else None.

    `extra` are further parameters of requests, in any form: without `ignore_eos` a model may end
    its answer before.
    """
    mean = length.get("mean")
    fixed = "ignore_eos" in str(extra) and not length.get("stddev")
    return round(mean) if fixed and mean and mean > 0 else None
