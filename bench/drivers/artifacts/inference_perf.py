"""`*_lifecycle_metrics.json` of inference-perf, one for each stage of its load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.drivers.artifacts.entry import read_yaml
from bench.drivers.artifacts.run import (
    LATENCIES,
    TO_S,
    Report,
    ToolRun,
    beside,
    latencies,
    models_of,
)

KNOWN = "inference-perf 0.2 to 0.7"
_RATES = {"requests_per_sec": "throughput_rps", "output_tokens_per_sec": "output_tps"}


class _Successes(BaseModel):
    """Latencies are in seconds."""

    count: int
    latency: dict[str, dict[str, float] | None]
    throughput: dict[str, float]
    prompt_len: dict[str, float] | None = None
    prompt_tokens: dict[str, Any] | None = None
    output_len: dict[str, float] | None = None


class _Failures(BaseModel):
    count: int


class _Load(BaseModel):
    requested_rate: float | None = None
    concurrency: int | None = None


class _Stage(BaseModel):
    load_summary: _Load
    successes: _Successes
    failures: _Failures
    benchmark_time_seconds: float | None = None


def recognises(report: Report) -> bool:
    """Whether this is the report of a stage, or of all stages."""
    return {"load_summary", "successes", "failures"} <= report.keys()


def read(report: Report, path: Path) -> Iterator[ToolRun]:
    """The run of a report; `pooled` where it has all stages. Raises ValueError."""
    stage = _Stage.model_validate(report)
    load, done = stage.load_summary, stage.successes
    rates = {_RATES[name]: value for name, value in done.throughput.items() if name in _RATES}
    yield ToolRun(
        tool="inference-perf",
        models=models_of(_model(path.with_name("config.yaml"))),
        values=latencies(done.latency, LATENCIES, TO_S["s"]) | rates,
        requests=done.count,
        failed=stage.failures.count,
        concurrency=load.concurrency,
        rate_rps=None if load.concurrency else load.requested_rate,
        prompt_tokens=_mean(done.prompt_tokens) or _mean(done.prompt_len),
        answer_tokens=_mean(done.output_len),
        duration_s=stage.benchmark_time_seconds,
        pooled="requested_rate" not in load.model_fields_set,
        unread=beside((*done.latency, *done.throughput), LATENCIES, _RATES),
        path=path,
    )


def _mean(lengths: dict[str, Any] | None) -> float | None:
    """The mean of lengths, which newer versions give by where they were counted."""
    lengths = lengths or {}
    mean = lengths.get("mean", lengths.get("server_usage", lengths.get("client")))
    return _mean(mean) if isinstance(mean, dict) else mean


def _model(config: Path) -> object:
    """The model by the configuration beside the report; None if that is not there."""
    try:
        return read_yaml(config.read_text("utf-8"))["server"]["model_name"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
