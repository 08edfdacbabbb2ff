"""The report of guidellm: several benchmarks, each at a load of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.drivers.artifacts.run import TO_S, Report, ToolRun, latencies, models_of

KNOWN = "guidellm 0.3 to 0.8"
# In milliseconds. Its inter token latency is (last - first) / (tokens - 1) of a request, which is
# TPOT here.
_LATENCIES = {"time_to_first_token_ms": "ttft", "inter_token_latency_ms": "tpot"}
_E2E = {"request_latency": "e2e"}
_RATES = {"requests_per_second": "throughput_rps", "output_tokens_per_second": "output_tps"}


class _Distribution(BaseModel):
    mean: float
    median: float
    percentiles: dict[str, float]


class _ByStatus(BaseModel):
    successful: _Distribution | None = None


class _Counts(BaseModel):
    """A request is incomplete where the benchmark ended before it."""

    successful: int
    errored: int


class _Metrics(BaseModel, extra="allow"):
    request_totals: _Counts
    time_to_first_token_ms: _ByStatus
    inter_token_latency_ms: _ByStatus
    request_latency: _ByStatus
    requests_per_second: _ByStatus
    output_tokens_per_second: _ByStatus
    prompt_token_count: _ByStatus
    output_token_count: _ByStatus

    def statistics(self, name: str) -> dict[str, float]:
        """The mean, median and percentiles of a metric of successful requests."""
        of: _Distribution | None = getattr(self, name).successful
        return {} if of is None else {**of.percentiles, "mean": of.mean, "median": of.median}


class _Config(BaseModel):
    strategy: dict[str, Any]
    backend: dict[str, Any] = {}


class _Benchmark(BaseModel):
    config: _Config
    metrics: _Metrics
    start_time: float
    end_time: float


def recognises(report: Report) -> bool:
    """Whether this is a report of guidellm."""
    return {"benchmarks", "metadata"} <= report.keys()


def read(report: Report, path: Path) -> Iterator[ToolRun]:
    """A run for each benchmark. Raises ValueError for a report of another form."""
    settings = report.get("config") or report.get("args") or {}
    backend = settings.get("spec", {}).get("backend") or settings
    for one in map(_Benchmark.model_validate, report["benchmarks"]):
        metrics, strategy = one.metrics, one.config.strategy
        statistics = {
            name: metrics.statistics(name)
            for name in _Metrics.model_fields
            if name != "request_totals"
        }
        values = latencies(statistics, _LATENCIES, TO_S["ms"]) | latencies(
            statistics, _E2E, TO_S["s"]
        )
        streams = 1 if strategy.get("type_") == "synchronous" else strategy.get("streams")
        yield ToolRun(
            tool="guidellm",
            version=report["metadata"].get("guidellm_version"),
            models=models_of(one.config.backend.get("model") or backend.get("model")),
            values=values | {to: statistics[name].get("mean") for name, to in _RATES.items()},
            requests=metrics.request_totals.successful,
            failed=metrics.request_totals.errored,
            concurrency=strategy.get("max_concurrency") if streams is None else streams,
            rate_rps=strategy.get("rate"),
            prompt_tokens=statistics["prompt_token_count"].get("mean"),
            answer_tokens=statistics["output_token_count"].get("mean"),
            duration_s=one.end_time - one.start_time,
            started_s=one.start_time,
            ended_s=one.end_time,
            unread=tuple(metrics.model_extra or ()),
            path=path,
        )
