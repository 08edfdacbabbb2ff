"""`benchmarks.json` of guidellm: several benchmarks, each at a load of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from bench.drivers.artifacts.entry import NS_PER_S, Entry
from bench.drivers.artifacts.run import TO_S, Report, ToolRun, latency, model_name
from bench.load.client.answer import Answer
from bench.load.client.exchange import Failure
from bench.records import ErrorKind

KNOWN = "guidellm 0.3 to 0.8"
# Its inter token latency is (last - first) / (tokens - 1) of a request, which is TPOT here.
_LATENCIES = {
    "time_to_first_token_ms": ("ttft", TO_S["ms"]),
    "inter_token_latency_ms": ("tpot", TO_S["ms"]),
    "request_latency": ("e2e", TO_S["s"]),
}
_RATES = {"requests_per_second": "throughput_rps", "output_tokens_per_second": "output_tps"}
_READ = (*_LATENCIES, *_RATES, "prompt_token_count", "output_token_count", "request_totals")


class _Distribution(BaseModel):
    mean: float
    median: float
    percentiles: dict[str, float]


class _ByStatus(BaseModel):
    successful: _Distribution | None


class _Counts(BaseModel):
    successful: int
    errored: int
    incomplete: int


class _Timings(BaseModel):
    targeted_start: float | None = None
    request_start: float | None = None
    first_iteration: float | None = None
    last_iteration: float | None = None
    first_token_iteration: float | None = None
    last_token_iteration: float | None = None


class _Info(BaseModel):
    timings: _Timings = Field(default_factory=_Timings)
    error: str | None = None


class _Request(BaseModel):
    request_id: str
    info: _Info = Field(default_factory=_Info)
    prompt_tokens: int | None = None
    output_tokens: int | None = None


class _Requests(BaseModel):
    successful: list[_Request]
    errored: list[_Request]


class _Config(BaseModel):
    strategy: dict[str, Any]
    backend: dict[str, Any] = {}


class _Benchmark(BaseModel):
    id_: str = ""
    config: _Config
    metrics: dict[str, Any]
    requests: _Requests
    start_time: float
    end_time: float


def recognises(report: Report) -> bool:
    """Whether this is a report of guidellm."""
    return "benchmarks" in report and "metadata" in report


def read(report: Report, path: Path) -> Iterator[ToolRun]:
    """A run for each benchmark. Raises ValueError for a report of another form."""
    settings = report.get("config") or report.get("args") or {}
    for one in report["benchmarks"]:
        benchmark = _Benchmark.model_validate(one)
        model = _model(benchmark, settings)
        yield _run(benchmark, (model_name(model),) if model else (), report["metadata"], path)


def _model(benchmark: _Benchmark, settings: Report) -> object:
    backend = settings.get("spec", {}).get("backend") or settings
    return benchmark.config.backend.get("model") or backend.get("model")


def _run(benchmark: _Benchmark, models: tuple[str, ...], metadata: Report, path: Path) -> ToolRun:
    counts = _Counts.model_validate(benchmark.metrics["request_totals"])
    found = {
        name: one
        for name in _READ[:-1]
        if (one := _ByStatus.model_validate(benchmark.metrics[name]).successful) is not None
    }
    values = {_RATES[name]: found[name].mean for name in _RATES if name in found}
    for name, (quantity, unit_s) in _LATENCIES.items():
        if name in found:
            one = found[name]
            statistics = {**one.percentiles, "mean": one.mean, "median": one.median}
            values |= dict(latency(quantity, statistics, unit_s))
    strategy = benchmark.config.strategy
    kind = strategy.get("type_")
    streams = 1 if kind == "synchronous" else strategy.get("streams")
    prompts, answers = (found.get(f"{one}_token_count") for one in ("prompt", "output"))
    return ToolRun(
        tool="guidellm",
        version=metadata.get("guidellm_version"),
        models=models,
        # A request is incomplete where the benchmark ended before it.
        values=values if counts.successful else {},
        requests=counts.successful,
        failed=counts.errored,
        concurrency=strategy.get("max_concurrency") if streams is None else streams,
        rate_rps=strategy.get("rate"),
        prompt_tokens=prompts.mean if prompts else None,
        answer_tokens=answers.mean if answers else None,
        duration_s=benchmark.end_time - benchmark.start_time,
        started_s=benchmark.start_time,
        ended_s=benchmark.end_time,
        entries=_entries(benchmark.requests, counts, timed="rate" in strategy),
        uid=benchmark.id_,
        unread=tuple(name for name in benchmark.metrics if name not in _READ),
        path=path,
    )


def _entries(requests: _Requests, counts: _Counts, *, timed: bool) -> tuple[Entry, ...]:
    """The requests; none where only a part is recorded. `timed` ones had a time to start."""
    if (len(requests.successful), len(requests.errored)) != (counts.successful, counts.errored):
        return ()
    return tuple(
        _entry(one, failed=failed, timed=timed)
        for all_of_it, failed in ((requests.successful, False), (requests.errored, True))
        for one in all_of_it
        if one.info.timings.request_start is not None
    )


def _entry(request: _Request, *, failed: bool, timed: bool) -> Entry:
    at = request.info.timings
    sent_s = at.request_start or 0.0
    first_s = at.first_token_iteration or at.first_iteration
    last_s = at.last_token_iteration or at.last_iteration
    chunk_s, failure = [], None
    if failed or first_s is None or last_s is None:
        failure = Failure(ErrorKind.STATUS, (request.info.error or "no first token")[:200])
    else:
        chunk_s = [first_s - sent_s, last_s - sent_s]
    return Entry(
        name=request.request_id,
        issued_ns=round(((timed and at.targeted_start) or sent_s) * NS_PER_S),
        sent_ns=round(sent_s * NS_PER_S),
        answer=Answer(
            status=None if failure else 200,
            chunk_s=chunk_s,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.output_tokens,
            failure=failure,
        ),
    )
