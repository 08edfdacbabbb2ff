"""One run of a load generator, as its files tell it, in the units and names used here."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.drivers.artifacts.entry import Entry
from bench.records import Slo

Report = dict[str, Any]

TO_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "sec": 1.0, "s": 1.0}
# The statistics of a latency, by the tools' words for them.
_STATISTICS = {
    **dict.fromkeys(("mean", "avg"), "mean"),
    **dict.fromkeys(("median", "p50"), "p50"),
    **{name: name for name in ("p90", "p95", "p99")},
}
# Latencies by the names that several tools share.
LATENCIES = {
    "time_to_first_token": "ttft",
    "time_per_output_token": "tpot",
    "inter_token_latency": "itl",
    "request_latency": "e2e",
}
# Mean latency x rate is the mean number of requests in flight. So many times the concurrency that
# was set, or so few in a closed loop, are a unit that was mistaken: by 1000, as a rule.
_MOST_IN_FLIGHT, _LEAST_IN_FLIGHT = 10.0, 0.01


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A run of a tool, by its own report, and its requests if they were recorded.

    `values` has the tool's own statistics under the names of the metrics here: seconds, shares,
    requests or tokens per second. `requests` were answered, and `failed` were not (None: not
    reported). `prompt_tokens` and `answer_tokens` are means. `output_tokens` is the length that
    every answer had to have; None if several were asked for, or an answer might end before. Of
    `concurrency` and `rate_rps` one is None, or both. `started_s` and `ended_s` are Unix times, or
    of another clock that all files of the tool share. A `pooled` run has the requests of several,
    each of which has a file of its own. `uid` is the file's own name of the run, and `pair` its
    label of what was measured together. `unread` names the figures that have no counterpart here,
    or no finite value.
    """

    tool: str
    models: tuple[str, ...]
    values: Mapping[str, Any]
    requests: int
    version: str | None = None
    failed: int | None = None
    concurrency: int | None = None
    rate_rps: float | None = None
    prompt_tokens: float | None = None
    answer_tokens: float | None = None
    output_tokens: int | None = None
    slo: Slo = field(default=Slo())
    cancelled: bool = False
    duration_s: float | None = None
    started_s: float | None = None
    ended_s: float | None = None
    entries: tuple[Entry, ...] = ()
    pooled: bool = False
    uid: str = ""
    pair: str = ""
    unread: tuple[str, ...] = ()
    path: Path = Path()

    @property
    def load(self) -> str:
        """`concurrency 8, 2 req/s`; `unlimited` where neither is set."""
        parts = (
            None if self.concurrency is None else f"concurrency {self.concurrency}",
            None if self.rate_rps is None else f"{self.rate_rps:g} req/s",
        )
        return ", ".join(filter(None, parts)) or "unlimited load"


def latencies(
    by_name: Mapping[str, Mapping[str, Any] | None], names: Mapping[str, str], unit_s: float
) -> dict[str, float]:
    """The means and percentiles of quantities under the names here, in seconds.

    `by_name` has statistics by the tool's `names` of quantities, in units of `unit_s` seconds.
    """
    return {
        f"{names[quantity]}_{_STATISTICS[name]}_s": float(value) * unit_s
        for quantity, statistics in by_name.items()
        if quantity in names
        for name, value in (statistics or {}).items()
        if name in _STATISTICS and value is not None
    }


def beside(names: Iterable[str], *known: Container[str]) -> tuple[str, ...]:
    """The names that are in none of those that are known."""
    return tuple(name for name in names if not any(name in one for one in known))


def models_of(*names: object) -> tuple[str, ...]:
    """The models that are named, with characters replaced that cannot be in a folder's name."""
    safe = (re.sub(r"[^A-Za-z0-9._-]+", "-", str(name)).lstrip("._-") for name in names if name)
    return tuple(dict.fromkeys(name or "model" for name in safe))


def nonsense(run: ToolRun) -> str | None:
    """What in the values of a run cannot be, such as milliseconds under a name for seconds."""
    for name, value in run.values.items():
        if value < 0:
            return f"{name}: {value:g}, which is less than nothing"
        if name.endswith("_s") and run.duration_s and value > 1.05 * run.duration_s:
            return f"{name} is {value:g} s in a run of {run.duration_s:g} s: is its unit right?"
    for quantity in {name.partition("_")[0] for name in run.values if name.endswith("_s")}:
        percentiles = [run.values.get(f"{quantity}_p{percent}_s") for percent in (50, 90, 95, 99)]
        known = [value for value in percentiles if value is not None]
        if known != sorted(known):
            return f"the percentiles of {quantity} fall: {', '.join(f'{one:g}' for one in known)} s"
    return _in_flight(run)


def _in_flight(run: ToolRun) -> str | None:
    rate, whole_s = run.values.get("throughput_rps"), run.values.get("e2e_mean_s")
    if whole_s is None and run.answer_tokens and "tpot_mean_s" in run.values:
        tokens_s = run.values["tpot_mean_s"] * max(0.0, run.answer_tokens - 1)
        whole_s = run.values.get("ttft_mean_s", math.nan) + tokens_s
    if not (rate and whole_s and run.concurrency) or run.requests < run.concurrency:
        return None
    seen = rate * whole_s / run.concurrency
    closed = run.rate_rps is None
    if seen > _MOST_IN_FLIGHT or (closed and seen < _LEAST_IN_FLIGHT):
        return (
            f"mean latency times rate gives {rate * whole_s:.3g} requests in flight at"
            f" concurrency {run.concurrency}: are the units right?"
        )
    return None
