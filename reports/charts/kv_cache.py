"""How full the KV cache of each replica was over time."""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.judgement import Case
from bench.records import ServerReading, Trial
from reports.charts.levels import Levels, level_charts
from reports.charts.style import Chart


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """See `level_charts`; by what engines told."""
    texts = ("KV cache in the replicas", "share of the KV cache in use", "%")
    return level_charts(case, caption, _levels, texts)


def _levels(trial: Trial) -> Levels:
    return {
        series.replica: [(one.at_s, _percent(one)) for one in series.readings]
        for series in trial.server
    }


def _percent(reading: ServerReading) -> float | None:
    usage = reading.kv_cache_usage
    return None if usage is None else 100 * usage
