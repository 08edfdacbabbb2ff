"""The benchmark report of llm-d (PyPI: llmd-benchmark-report), versions 0.1 and 0.2."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.drivers.artifacts.run import TO_S, Report, ToolRun, latency, model_name

KNOWN = "llm-d benchmark report 0.1 and 0.2"
_LATENCIES = {
    "time_to_first_token": "ttft",
    "time_per_output_token": "tpot",
    "inter_token_latency": "itl",
    "request_latency": "e2e",
}
_RATES = {
    "request_rate": "throughput_rps",
    "requests_per_sec": "throughput_rps",
    "output_token_rate": "output_tps",
    "output_tokens_per_sec": "output_tps",
}
_BLOCK = re.compile(r"(?:block|pair)[-_ :=]*(\w+)", re.IGNORECASE)


class _Requests(BaseModel):
    total: int
    failures: int | None = None
    input_length: dict[str, Any] | None = None
    output_length: dict[str, Any] | None = None


class _Aggregate(BaseModel):
    """In version 0.1 rates are numbers, in 0.2 statistics with a unit."""

    requests: _Requests
    latency: dict[str, dict[str, Any] | None]
    throughput: dict[str, dict[str, Any] | float | None]


def recognises(report: Report) -> bool:
    """Whether this is a benchmark report of llm-d."""
    parts = report.keys()
    return {"version", "scenario"} <= parts and ("metrics" in parts or {"run", "results"} <= parts)


def read(report: Report, path: Path) -> Iterator[ToolRun]:
    """The run of a report. Raises ValueError for one of another form."""
    old = "metrics" in report
    found = report["metrics"] if old else report["results"]["request_performance"]["aggregate"]
    aggregate = _Aggregate.model_validate(found)
    about = _about_01(report) if old else _about_02(report)
    requests = aggregate.requests
    values = dict(_rates(aggregate))
    for name, quantity in _LATENCIES.items():
        statistics = aggregate.latency.get(name)
        if statistics:
            unit = str(statistics["units"]).removesuffix("/token")
            if unit not in TO_S:
                raise ValueError(f"{name} is in {statistics['units']!r}, which is no unit of time")
            values |= dict(latency(quantity, statistics, TO_S[unit]))
    answered = requests.total - (requests.failures or 0)
    yield ToolRun(
        values=values if answered else {},
        requests=answered,
        failed=requests.failures,
        prompt_tokens=(requests.input_length or {}).get("mean"),
        answer_tokens=(requests.output_length or {}).get("mean"),
        unread=tuple(
            name
            for name in (*aggregate.latency, *aggregate.throughput)
            if name not in _LATENCIES | _RATES
        ),
        path=path,
        **about,
    )


def _rates(aggregate: _Aggregate) -> Iterator[tuple[str, float]]:
    for name, value in aggregate.throughput.items():
        mean = value.get("mean") if isinstance(value, dict) else value
        if name in _RATES and mean is not None:
            yield _RATES[name], mean


def _about_02(report: Report) -> dict[str, Any]:
    """What the run was, by a report of version 0.2."""
    run, load = report["run"], report["scenario"].get("load") or {}
    standard, labels = load.get("standardized") or {}, load.get("metadata") or {}
    stack = report["scenario"].get("stack") or ()
    models = [(part.get("standardized") or {}).get("model") for part in stack]
    started_s, ended_s = (_time_s((run.get("time") or {}).get(name)) for name in ("start", "end"))
    # Infinite where they are not limited.
    rate, streams = (
        one if one is not None and math.isfinite(one) else None
        for one in (standard.get("rate_qps"), standard.get("concurrency"))
    )
    texts = (labels.get("treatment_group"), *(run.get("keywords") or ()), run.get("description"))
    blocks = [found[1] for text in texts if text and (found := _BLOCK.search(str(text)))]
    return {
        "tool": f"llm-d report of {standard.get('tool') or 'an unnamed tool'}",
        "version": standard.get("tool_version"),
        "models": tuple(dict.fromkeys(model_name(one["name"]) for one in models if one)),
        "concurrency": None if streams is None else int(streams),
        "rate_rps": rate,
        "started_s": started_s,
        "ended_s": ended_s,
        "uid": run.get("uid") or "",
        "pair": blocks[0] if blocks else "",
    }


def _about_01(report: Report) -> dict[str, Any]:
    """What the run was, by a report of version 0.1."""
    scenario, time = report["scenario"], report["metrics"]["time"]
    return {
        "tool": f"llm-d report of {scenario['load']['name']}",
        "models": (model_name(scenario["model"]["name"]),),
        "started_s": time.get("start"),
        "ended_s": time.get("stop"),
        "duration_s": time.get("duration"),
    }


def _time_s(time: str | datetime | None) -> float | None:
    """Unix time; YAML has times as such, JSON as text."""
    if time is None:
        return None
    return (datetime.fromisoformat(time) if isinstance(time, str) else time).timestamp()
