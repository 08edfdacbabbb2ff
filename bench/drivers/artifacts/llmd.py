"""The benchmark report of llm-d (PyPI: llmd-benchmark-report), versions 0.1 and 0.2."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.drivers.artifacts.run import (
    LATENCIES,
    TO_S,
    Report,
    ToolRun,
    beside,
    latencies,
    models_of,
)

KNOWN = "llm-d benchmark report 0.1 and 0.2"
_RATES = {
    **dict.fromkeys(("request_rate", "requests_per_sec"), "throughput_rps"),
    **dict.fromkeys(("output_token_rate", "output_tokens_per_sec"), "output_tps"),
}
_BLOCK = re.compile(r"(?:block|pair)[-_ :=]*(\w+)", re.IGNORECASE)


class _Requests(BaseModel):
    total: int
    failures: int | None = None
    input_length: dict[str, Any] = {}
    output_length: dict[str, Any] = {}


class _Aggregate(BaseModel):
    """In version 0.1 rates are numbers, in 0.2 statistics with a unit."""

    requests: _Requests
    latency: dict[str, dict[str, Any] | None] = {}
    throughput: dict[str, dict[str, Any] | float | None] = {}


def recognises(report: Report) -> bool:
    """Whether this is a benchmark report of llm-d; a partial one does not say what was run."""
    return {"version", "scenario"} <= report.keys() and not report.keys().isdisjoint(
        ("metrics", "results")
    )


def read(report: Report, path: Path) -> Iterator[ToolRun]:
    """The run of a report. Raises ValueError for one of another form."""
    old = "metrics" in report
    found = report["metrics"] if old else report["results"]["request_performance"]["aggregate"]
    aggregate = _Aggregate.model_validate(found)
    requests = aggregate.requests
    values: dict[str, Any] = {}
    for name, statistics in aggregate.latency.items():
        if statistics:
            unit = str(statistics["units"]).removesuffix("/token")
            if unit not in TO_S:
                raise ValueError(f"{name} is in {statistics['units']!r}, which is no unit of time")
            values |= latencies({name: statistics}, LATENCIES, TO_S[unit])
    for name, rate in aggregate.throughput.items():
        if name in _RATES:
            values[_RATES[name]] = rate.get("mean") if isinstance(rate, dict) else rate
    yield ToolRun(
        values=values,
        requests=requests.total - (requests.failures or 0),
        failed=requests.failures,
        prompt_tokens=requests.input_length.get("mean"),
        answer_tokens=requests.output_length.get("mean"),
        unread=beside((*aggregate.latency, *aggregate.throughput), LATENCIES, _RATES),
        path=path,
        **(_about_01(report) if old else _about_02(report)),
    )


def _about_02(report: Report) -> dict[str, Any]:
    """What the run was, by a report of version 0.2."""
    run, scenario = report["run"], report["scenario"] or {}
    load = scenario.get("load") or {}
    standard, labels = load.get("standardized") or {}, load.get("metadata") or {}
    stack = [(part.get("standardized") or {}).get("model") for part in scenario.get("stack") or ()]
    started_s, ended_s = (_time_s((run.get("time") or {}).get(name)) for name in ("start", "end"))
    # Infinite where they are not limited.
    rate, streams = (
        one if one is not None and math.isfinite(one) else None
        for one in (standard.get("rate_qps"), standard.get("concurrency"))
    )
    texts = (labels.get("treatment_group"), *(run.get("keywords") or ()), run.get("description"))
    blocks = (found[1] for text in texts if text and (found := _BLOCK.search(str(text))))
    return {
        "tool": f"llm-d report of {standard.get('tool') or 'an unnamed tool'}",
        "version": standard.get("tool_version"),
        "models": models_of(*(model["name"] for model in stack if model)),
        "concurrency": None if streams is None else int(streams),
        "rate_rps": rate,
        "started_s": started_s,
        "ended_s": ended_s,
        "uid": run.get("uid") or "",
        "pair": next(blocks, ""),
    }


def _about_01(report: Report) -> dict[str, Any]:
    """What the run was, by a report of version 0.1."""
    scenario, time = report["scenario"], report["metrics"]["time"]
    return {
        "tool": f"llm-d report of {scenario['load']['name']}",
        "models": models_of(scenario["model"]["name"]),
        "started_s": time.get("start"),
        "ended_s": time.get("stop"),
        "duration_s": time.get("duration"),
    }


def _time_s(time: str | datetime | None) -> float | None:
    """Unix time; YAML has times as such, JSON as text."""
    if time is None:
        return None
    return (datetime.fromisoformat(time) if isinstance(time, str) else time).timestamp()
