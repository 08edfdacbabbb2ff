"""Ratios with their intervals: one row a case, or one row a block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.analysis.judge import Judgement
from bench.analysis.verdict import ALIKE
from bench.records import Comparison
from reports import palette, wording
from reports.case import Arms, arms_of, short_title
from reports.charts.style import Chart, Line, empty, new_chart

_BAND = (math.exp(-ALIKE), math.exp(ALIKE))
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10, 20, 50, 100)
_NARROWEST = (0.7, 1 / 0.7)


@dataclass(frozen=True, slots=True)
class _Row:
    """A ratio with its interval where there is one, and single blocks as dots."""

    label: str
    text: str
    colour: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    dots: tuple[float, ...] = ()

    @property
    def numbers(self) -> list[float]:
        known = (self.ratio, self.low, self.high, *self.dots)
        return [one for one in known if one is not None and math.isfinite(one) and one > 0]


def forest(judgements: Sequence[Judgement], caption: str) -> Chart:
    """The primary metric of every case: interval, and each block as a dot."""
    rows = [
        _pooled(f"{short_title(one)}\n{_metric(one.primary)}", one.primary, one.effects)
        for one in judgements
        if one.primary is not None
    ]
    lines = [Line(f"{_ratio(arms_of(judgements))}; dots: blocks; grey band: equivalent")]
    return _plot("Primary metric of every scenario", rows, lines, caption, row_in=0.52)


def blocks(judgement: Judgement, caption: str) -> Chart:
    """The primary metric of one case: the ratio of each block, and all together."""
    name, rows = "Primary metric", []
    if judgement.primary is not None:
        name = wording.metric(judgement.primary.metric)
        rows = [
            _Row(f"block {index}", wording.factor(effect), palette.MUTED, dots=(effect,))
            for index, effect in enumerate(judgement.effects, start=1)
        ]
        rows.append(_pooled("all blocks", judgement.primary, ()))
    lines = [Line(f"{_ratio(arms_of([judgement]))}; grey band: equivalent")]
    return _plot(f"{name}, block by block", rows, lines, caption, row_in=0.3)


def _ratio(arms: Arms) -> str:
    control, treatment = arms.headings
    return f"ratio {treatment} / {control}"


def _pooled(label: str, comparison: Comparison, dots: tuple[float, ...]) -> _Row:
    text = f"{wording.ratio(comparison)}\n{comparison.verdict}"
    colour = palette.OUTCOME[comparison.verdict]
    return _Row(label, text, colour, comparison.ratio, comparison.low, comparison.high, dots)


def _metric(comparison: Comparison) -> str:
    return f"{wording.metric(comparison.metric)} ({comparison.direction} is better)"


def _plot(
    title: str, rows: Sequence[_Row], lines: Sequence[Line], caption: str, row_in: float
) -> Chart:
    longest = max((len(part) for row in rows for part in row.label.split("\n")), default=0)
    chart, (axes,) = new_chart(
        title,
        lines,
        caption,
        plot_in=[row_in * len(rows) if rows else 1.0],
        left_in=0.4 + 0.066 * longest,
        right_in=1.45,
    )
    numbers = [number for row in rows for number in row.numbers]
    if not numbers:
        empty(axes)
        return chart
    axes.axvspan(*_BAND, color=palette.BAND, zorder=0)
    axes.axvline(1, color=palette.MUTED, linewidth=1)
    for y, row in enumerate(rows):
        _draw_row(axes, y, row)
    _ratio_axis(axes, numbers)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], size=8, color=palette.INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    return chart


def _draw_row(axes: Axes, y: int, row: _Row) -> None:
    # Blocks lie just below their interval, which would hide them.
    below = 0.0 if row.ratio is None else 0.2
    heights = [y + below] * len(row.dots)
    axes.scatter(row.dots, heights, s=18, color=palette.MUTED, alpha=0.6, linewidths=0)
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [y, y], color=row.colour, linewidth=2.4)
    if row.ratio is not None:
        axes.plot(row.ratio, y, "D", color=row.colour, markersize=6.5, markeredgecolor="white")
    axes.text(
        1.03,
        y,
        row.text,
        transform=axes.get_yaxis_transform(),
        size=8,
        color=row.colour,
        va="center",
    )


def _ratio_axis(axes: Axes, numbers: Sequence[float]) -> None:
    """Logarithmic, so that halving and doubling are equally far from 1."""
    axes.set_xscale("log")
    low = min(*numbers, _NARROWEST[0]) / 1.08
    high = max(*numbers, _NARROWEST[1]) * 1.08
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if low <= tick <= high]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
