"""Latency and SLO attainment against the offered load, where the load was searched for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from matplotlib.axes import Axes

from bench.analysis.estimates import percentile
from bench.analysis.judgement import Case, Summary
from bench.analysis.rates import attainment, target
from bench.analysis.timings import scheduled_ttft_s
from bench.records import Trial
from reports import wording
from reports.charts.series import Series, series_of
from reports.charts.style import MUTED, Chart, Frame, Line, new_chart, seconds_axis, subtitle

Points = list[tuple[float, float]]

# Trials whose loads differ by less than this factor are one point of the curve.
_BIN = 1.1


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """Both arms, where the load was searched for.

    A dot for each trial, a line through medians of neighbouring loads. What an arm carries within
    its SLO is where attainment falls to the target: a band shows that load's interval.
    """
    if case.judgement.scenario.search_step is None:
        return
    arms = series_of(case)
    carried = {one.role: one for one in case.judgement.summaries if one.metric == "carried_rps"}
    lines = [Line(_legend(arm, carried[arm.first.role]), arm.colour, arm.look.dot) for arm in arms]
    frame = Frame(plots=(1.7, 1.7), gap=0.45, head=0.3)
    values = (value for arm in arms for value in _in_words(arm))
    chart, (above, below) = new_chart("Load within the SLO", lines, caption, frame, values)
    subtitle(above, "requests that met their objectives")
    subtitle(below, "Scheduled TTFT p95")
    for arm in arms:
        _draw(above, arm, _met(arm))
        _draw(below, arm, _latencies(arm))
        for axes in (above, below):
            _band(axes, arm, carried[arm.first.role])
    above.axhline(100 * target(case.trials[0]), color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    above.set(ylim=(0, 103))
    above.yaxis.set_major_formatter("{x:.0f} %")
    above.tick_params(labelbottom=False)
    seconds_axis(below, "y")
    below.set(xlabel="offered load in requests per second")
    yield chart


def _legend(arm: Series, summary: Summary) -> str:
    value = wording.quantity(summary.value, summary.unit)
    return f"{arm.name}: {value}{wording.bounds(summary.low, summary.high)}"


def _in_words(arm: Series) -> Iterator[str]:
    """The line through the arm's trials: at each load what met its objectives, and the latency."""
    for name, points, unit in (
        ("of requests met their objectives", _met(arm), "%"),
        ("scheduled TTFT p95", _latencies(arm), "s"),
    ):
        for load, value in _through([one for one in points if math.isfinite(one[1])]):
            at = f"{arm.name} at {wording.number(load)} requests/s"
            yield f"{at}: {wording.quantity(value, unit)} {name}"


def _met(arm: Series) -> Points:
    return [(load, 100 * attainment(trial)) for load, trial in _offered(arm)]


def _latencies(arm: Series) -> Points:
    return [(load, _ttft_p95_s(trial)) for load, trial in _offered(arm)]


def _offered(arm: Series) -> list[tuple[float, Trial]]:
    """The arm's trials by what they offered, lowest load first."""
    known = [(trial.offered_rps, trial) for trial in arm.trials if trial.offered_rps]
    return sorted(known, key=lambda one: one[0])


def _ttft_p95_s(trial: Trial) -> float:
    return percentile([scheduled_ttft_s(sample) for sample in trial.samples], 95) or math.nan


def _draw(axes: Axes, arm: Series, points: Points) -> None:
    shown = [point for point in points if math.isfinite(point[1])]
    if not shown:
        return
    colour, look = arm.colour, arm.look
    axes.plot(*zip(*shown, strict=True), look.marker, color=colour, markersize=4, alpha=0.45)
    line = zip(*_through(shown), strict=True)
    axes.plot(*line, color=colour, linestyle=look.dashes, linewidth=2)


def _through(points: Points) -> Points:
    """The medians of groups of points that lie within a factor of `_BIN` in load."""
    groups: list[Points] = []
    for point in points:
        if groups and point[0] <= _BIN * groups[-1][0][0]:
            groups[-1].append(point)
        else:
            groups.append([point])
    columns = [zip(*group, strict=True) for group in groups]
    return [(median(loads), median(values)) for loads, values in columns]


def _band(axes: Axes, arm: Series, summary: Summary) -> None:
    if summary.value is None:
        return
    if summary.low is not None and summary.high is not None:
        axes.axvspan(summary.low, summary.high, color=arm.colour, alpha=0.12, linewidth=0)
    axes.axvline(summary.value, color=arm.colour, linestyle=arm.look.dashes, linewidth=1)
