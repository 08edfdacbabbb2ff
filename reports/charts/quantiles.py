"""Quantiles of one arm against those of the other: where along the distribution they part."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bench.analysis.estimates import percentile
from bench.analysis.judgement import Case
from bench.analysis.timings import scheduled_ttft_s
from reports import wording
from reports.charts.series import series_of
from reports.charts.style import (
    INK,
    MUTED,
    Chart,
    Frame,
    Line,
    name_point,
    new_chart,
    seconds_axis,
)

_MARKS = (50, 95, 99)


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """None where an arm is missing or nothing was answered, or where the load was searched for."""
    arms = series_of(case)
    if case.judgement.scenario.search_step is not None or len(arms) != 2:
        return
    latencies = [list(map(scheduled_ttft_s, arm.samples)) for arm in arms]
    shown = [
        (percent, *values)
        for percent in range(1, 100)
        if (values := _finite(percentile(one, percent) for one in latencies))
    ]
    if not shown:
        return
    control, treatment = arms
    line = Line(f"below the line: {treatment.name} is faster than {control.name}")
    frame = Frame(plots=(2.6,), left=0.85)
    words = (
        f"p{percent}: {control.name} {wording.duration(x)}, {treatment.name} {wording.duration(y)}"
        for percent, x, y in shown
        if percent in _MARKS
    )
    title = "Scheduled TTFT: quantile against quantile"
    chart, (axes,) = new_chart(title, [line], caption, frame, words)
    every = [value for _, *values in shown for value in values]
    ends = (min(every) / 1.1, max(every) * 1.1)
    axes.plot(ends, ends, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.plot([x for _, x, _ in shown], [y for _, _, y in shown], color=INK, linewidth=1.6)
    for percent, x, y in shown:
        if percent in _MARKS:
            axes.plot(x, y, "o", color=treatment.colour, markeredgecolor="white", zorder=3)
            name_point(axes, x, y, f"p{percent}", treatment.colour)
    seconds_axis(axes, "x")
    seconds_axis(axes, "y")
    axes.set(xlim=ends, ylim=ends, xlabel=control.name, ylabel=treatment.name)
    yield chart


def _finite(values: Iterator[float | None]) -> list[float]:
    """The values, or none of them where one is missing, infinite, or not above zero."""
    known = [value for value in values if value is not None and math.isfinite(value) and value > 0]
    return known if len(known) == 2 else []
