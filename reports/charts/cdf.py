"""Latency distribution: how many of all requests were answered within a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from bench.analysis.estimates import percentile
from bench.records import Sample
from reports import palette, wording
from reports.case import Case
from reports.charts.series import series_of
from reports.charts.style import Chart, Frame, Line, empty, new_chart, seconds_axis

_MARKS = (50, 95)
_MOST_POINTS = 250


@dataclass(frozen=True, slots=True)
class _Curve:
    """One arm's latencies in seconds, ascending; a failed request is +inf."""

    name: str
    colour: str
    latencies: tuple[float, ...]

    @property
    def answered(self) -> tuple[float, ...]:
        return tuple(one for one in self.latencies if math.isfinite(one))

    @property
    def legend(self) -> str:
        marks = ", ".join(
            f"p{mark} {wording.quantity(percentile(self.latencies, mark), 's')}" for mark in _MARKS
        )
        failed = len(self.latencies) - len(self.answered)
        failures = f", {failed} failed" if failed else ""
        return f"━ {self.name}: {marks}, n {len(self.latencies)}{failures}"


def latency_cdf(case: Case, what: str, latency: Callable[[Sample], float], caption: str) -> Chart:
    """Both arms' distribution of `what` over all blocks, with p50 and p95.

    Failed requests are never answered: the curve ends below 100 %.
    """
    curves = _curves(case, latency)
    lines = [Line(curve.legend, curve.colour) for curve in curves]
    chart, (axes,) = new_chart(f"{what}: distribution", lines, caption, Frame(plots=(2.35,)))
    if not any(curve.answered for curve in curves):
        empty(axes, "no request succeeded" if curves else wording.NO_DATA)
        return chart
    for mark in _MARKS:
        axes.axhline(mark, color=palette.MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    for curve in curves:
        _draw(axes, curve)
    seconds_axis(axes, "x")
    axes.set(ylim=(0, 102), yticks=[0, 25, 50, 75, 95], xlabel="time since the request was due")
    axes.yaxis.set_major_formatter("{x:.0f} %")
    return chart


def _curves(case: Case, latency: Callable[[Sample], float]) -> list[_Curve]:
    return [
        _Curve(arm.name, arm.colour, tuple(sorted(map(latency, arm.samples))))
        for arm in series_of(case)
    ]


def _draw(axes: Axes, curve: _Curve) -> None:
    if not curve.answered:
        return
    # Some hundred points draw the curve as well as ten thousand do, and load faster.
    steps = min(len(curve.answered), _MOST_POINTS)
    places = np.linspace(0, len(curve.answered) - 1, steps).round().astype(int)
    shares = (places + 1) / len(curve.latencies) * 100
    times = np.array(curve.answered)[places]
    axes.step(times, shares, where="post", color=curve.colour, linewidth=2)
    for mark in _MARKS:
        at_s = percentile(curve.latencies, mark)
        if at_s is not None and math.isfinite(at_s):
            axes.plot(at_s, mark, "o", color=curve.colour, markeredgecolor="white", zorder=3)
