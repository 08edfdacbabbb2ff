"""Memory of GPUs over time: all that is in use, and the KV cache of each engine with KVCached."""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.judgement import Case
from bench.records import Trial
from reports.charts.levels import Levels, level_charts
from reports.charts.style import Chart


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """See `level_charts`; by nvidia-smi and kvctl."""
    texts = ("Memory of the GPUs", "memory in use, and what KV caches take of it", "GiB")
    return level_charts(case, caption, _levels, texts)


def _levels(trial: Trial) -> Levels:
    """Lines for each place: of its GPUs, and of each engine there with KVCached."""
    levels = {}
    for series in trial.memory:
        readings = series.readings
        levels[f"GPUs of {series.place}"] = [(one.at_s, one.used_gib) for one in readings]
        for engine in dict.fromkeys(name for one in readings for name in one.kv_gib):
            levels[f"KV cache of {engine}"] = [
                (one.at_s, one.kv_gib.get(engine)) for one in readings
            ]
    return levels
