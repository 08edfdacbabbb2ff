"""How full the KV cache of each replica was over time, of both arms on shared axes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from matplotlib.ticker import MaxNLocator

from bench.analysis.judgement import Case
from bench.records import ServerSeries
from reports import wording
from reports.charts.series import draw_levels, scraped_replicas, titled, typical_trials
from reports.charts.style import OTHERS, Chart, Frame, new_chart, subtitle


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """The first trial of each arm in the typical block; none where no engine told.

    A line is broken where metrics could not be read.
    """
    arms = typical_trials(case)
    readings = [one for arm in arms for series in arm.first.server for one in series.readings]
    if case.judgement.scenario.search_step is not None or not any(
        one.kv_cache_usage is not None for one in readings
    ):
        return
    looks, lines = scraped_replicas(arms)
    frame = Frame(plots=(1.0,) * len(arms), gap=0.45, head=0.3)
    values = (
        f"{arm.name}, {series.replica}: at most {_most(series)} of the KV cache"
        for arm in arms
        for series in arm.first.server
    )
    title = titled("KV cache in the replicas", arms)
    chart, axes = new_chart(title, lines, caption, frame, values)
    most = max(one.kv_cache_usage or 0.0 for one in readings)
    for arm, plot in zip(arms, axes, strict=True):
        for series in arm.first.server:
            used = [100 * _or_nan(one.kv_cache_usage) for one in series.readings]
            times = [one.at_s for one in series.readings]
            draw_levels(plot, times, used, looks.get(series.replica, OTHERS))
        subtitle(plot, f"{arm.name}: share of the KV cache in use")
        plot.set_ylim(0, max(110 * most, 1.0))
        plot.yaxis.set_major_locator(MaxNLocator(nbins=4))
        plot.yaxis.set_major_formatter("{x:.3g} %")
    for plot in axes[:-1]:
        plot.tick_params(labelbottom=False)
    axes[-1].set_xlim(0, max(arm.first.elapsed_s for arm in arms))
    axes[-1].set_xlabel("seconds since the start of the trial")
    yield chart


def _most(series: ServerSeries) -> str:
    shares = (one.kv_cache_usage for one in series.readings)
    return wording.percent(max((one for one in shares if one is not None), default=None))


def _or_nan(share: float | None) -> float:
    return math.nan if share is None else share
