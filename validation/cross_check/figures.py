"""What a tool says of one run of the work, and what that comes to over all rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.metrics import metric
from bench.load.outcome import DriveResult

METRICS = ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "e2e_p50_s", "output_tps", "throughput_rps")

Values = Mapping[str, float]
"""By metric; one that a tool does not tell is left out."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric over the rounds. `ratio` is the median of the rounds' ratios to the first tool."""

    median: float
    low: float
    high: float
    ratio: float


def measured(result: DriveResult) -> dict[str, float]:
    """The metrics of a drive by the definitions here, over the time that it took."""
    seen = {name: metric(name).function(result.samples, result.elapsed_s, {}) for name in METRICS}
    return {name: value for name, value in seen.items() if value is not None}


def summarize(rounds: Sequence[Mapping[str, Values]]) -> dict[str, dict[str, Figure]]:
    """Figures by tool and metric; `rounds` hold values by tool, the reference first."""
    reference = next(iter(rounds[0]))
    return {
        tool: {
            name: _figure(
                [one[tool][name] for one in rounds],
                [one[tool][name] / one[reference][name] for one in rounds],
            )
            for name in METRICS
            if all(name in one[tool] for one in rounds)
        }
        for tool in rounds[0]
    }


def _figure(values: Sequence[float], ratios: Sequence[float]) -> Figure:
    return Figure(statistics.median(values), min(values), max(values), statistics.median(ratios))
