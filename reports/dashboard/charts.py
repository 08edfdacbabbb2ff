"""The charts of the dashboard: bars of one figure, and the percentiles of one latency.

Both take the series that are drawn and those that share their axis: charts that stand side by side
have the same one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from bench.analysis.metrics import metric
from reports import wording
from reports.charts.style import (
    INK,
    MUTED,
    Chart,
    Frame,
    Line,
    Look,
    empty,
    look,
    new_chart,
    seconds_axis,
)
from reports.dashboard.figures import PERCENTILES, SUCCESS, Series, heading

_BAR_IN, _CASE_IN = 0.24, 0.34


def bars(
    name: str, series: Sequence[Series], cases: Sequence[str], beside: Sequence[Series]
) -> Chart:
    """A bar for each arm, grouped by case; a figure that is not finite has words in its place."""
    groups = [(case, [one for one in series if case in one.cases]) for case in cases]
    height_in = sum(_CASE_IN + _BAR_IN * len(members) for _, members in groups)
    looks = [_look(beside, one) for one in series]
    lines = [Line(one.name, own.colour, own.bar) for one, own in zip(series, looks, strict=True)]
    frame = Frame(plots=(max(height_in, 0.8),), left=0.25, right=0.85, bottom=0.4)
    unit = _unit(name)
    values = (
        f"{case}, {one.name}: {wording.quantity(one.value(case, name), unit)}"
        for case, members in groups
        for one in members
    )
    chart, (axes,) = new_chart(heading(name), lines, "", frame, values)
    highest = max(_known(beside, cases, (name,)), default=0.0)
    if not highest:
        empty(axes)
        return chart
    y_in = 0.0
    for case, members in groups:
        y_in += _CASE_IN
        axes.text(0, y_in - 0.1, case, size=8.5, color=INK, va="bottom")
        for one in members:
            _bar(axes, y_in, one.value(case, name), unit, _look(beside, one))
            y_in += _BAR_IN
    axes.set(ylim=(y_in, 0), xlim=(0, highest * 1.02), yticks=[])
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.quantity(value, unit)))
    axes.locator_params(axis="x", nbins=4)
    return chart


def percentiles(
    latency: str, series: Sequence[Series], case: str, beside: Sequence[Series]
) -> Chart:
    """The percentiles of a latency, a line for each arm; marks for what the arm's file has."""
    members = [one for one in series if case in one.cases]
    looks = [_look(beside, one) for one in members]
    lines = [Line(one.name, own.colour, own.dot) for one, own in zip(members, looks, strict=True)]
    frame = Frame(plots=(2.1,), right=0.4, bottom=0.4)
    names = [f"{latency}_p{percent}_s" for percent in PERCENTILES]
    values = (
        f"{one.name}, P{percent}: {wording.quantity(one.value(case, name), 's')}"
        for one in members
        for percent, name in zip(PERCENTILES, names, strict=True)
    )
    title = f"{wording.metric(latency)}: percentiles"
    chart, (axes,) = new_chart(title, lines, case, frame, values)
    known = _known(beside, [case], names)
    if not known:
        empty(axes)
        return chart
    for one, own in zip(members, looks, strict=True):
        points = [
            (place, value)
            for place, value in enumerate(one.value(case, name) for name in names)
            if value is not None and math.isfinite(value) and value > 0
        ]
        axes.plot(
            [place for place, _ in points],
            [value for _, value in points],
            marker=own.marker,
            linestyle=own.dashes,
            color=own.colour,
            markeredgecolor="white",
        )
    seconds_axis(axes, "y")
    axes.set(xlim=(-0.25, len(names) - 0.75), ylim=(min(known) / 1.15, max(known) * 1.15))
    axes.set_xticks(range(len(names)), [f"P{percent}" for percent in PERCENTILES])
    return chart


def _unit(name: str) -> str:
    return "share" if name == SUCCESS else metric(name).unit


def _bar(axes: Axes, y: float, value: float | None, unit: str, look: Look) -> None:
    height = value if value is not None and math.isfinite(value) else 0.0
    axes.barh(y + _BAR_IN / 2, height, height=_BAR_IN - 0.03, **look.of_bars)
    text = f" {wording.quantity(value, unit)}"
    axes.text(height, y + _BAR_IN / 2, text, size=8, color=MUTED, va="center")


def _known(series: Iterable[Series], cases: Sequence[str], metrics: Sequence[str]) -> list[float]:
    values = (one.value(case, name) for one in series for case in cases for name in metrics)
    return [value for value in values if value is not None and math.isfinite(value) and value > 0]


def _look(beside: Sequence[Series], one: Series) -> Look:
    """The same look for a series wherever it stands; the first two are the arms' own."""
    return look(beside.index(one))
