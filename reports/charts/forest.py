"""Ratios with their intervals: one row a case, or one row a block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.analysis.judgement import Case, Comparison, Judgement
from bench.analysis.verdict import ALIKE
from reports import wording
from reports.charts.style import BAND, INK, MUTED, OUTCOME, Chart, Frame, Line, new_chart
from reports.run import arms_of, short_title

_BAND = (math.exp(-ALIKE), math.exp(ALIKE))
# Few enough ticks that their labels do not overlap: by how far the axis reaches.
_TICKS = (
    (8.0, (0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5)),
    (200.0, (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)),
    (math.inf, (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6)),
)
_NARROWEST = (0.7, 1 / 0.7)
_WIDEST = (1e-3, 1e3)


@dataclass(frozen=True, slots=True)
class _Row:
    """A ratio with its interval where there is one, and single blocks as dots."""

    label: str
    result: str
    colour: str
    sublabel: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    dots: tuple[float, ...] = ()

    @property
    def numbers(self) -> list[float]:
        """What the axis has to reach: of a very wide interval only the part that is of use."""
        low, high = _WIDEST
        ends = _finite((self.low, self.high))
        return [*_finite((self.ratio, *self.dots)), *(min(max(one, low), high) for one in ends)]


def _finite(ratios: Iterable[float | None]) -> list[float]:
    return [one for one in ratios if one is not None and math.isfinite(one) and one > 0]


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """The ratios block by block, where a block has one."""
    if case.judgement.effects:
        yield blocks(case.judgement, caption)


def forest(judgements: Sequence[Judgement], caption: str) -> Chart:
    """The primary metric of every case: interval, and each block as a dot."""
    rows = [
        _pooled(short_title(one), one.primary, one.effects)
        for one in judgements
        if one.primary is not None
    ]
    over = ", ".join(dict.fromkeys(one.primary.over for one in judgements if one.primary))
    dots = f"; dots: {over}" if any(row.dots for row in rows) else ""
    lines = [Line(f"{arms_of(judgements).ratio}{dots}; grey band: equivalent")]
    chart, axes = _plot("Primary metric of every scenario", rows, lines, caption, row_in=0.78)
    for y, row in enumerate(rows):
        _text(axes, 0, y - 0.38, row.label, INK, weight="bold")
        _text(axes, 0, y - 0.18, row.sublabel, MUTED)
        result = row.result.replace("\n", ", ")
        _text(axes, 1, y - 0.38, result, row.colour, ha="right", weight="bold")
        _lane(axes, y - 0.06, y + 0.46)
        _draw_row(axes, y + 0.12, row)
    return chart


def blocks(judgement: Judgement, caption: str) -> Chart:
    """The primary metric of one case: the ratio of each block, and all together."""
    name, over, rows = "Primary metric", "blocks", []
    if judgement.primary is not None:
        name, over = wording.metric(judgement.primary.metric), judgement.primary.over
        rows = [
            _Row(
                f"{over.split()[0].removesuffix('s')} {index + 1}",
                wording.factor(ratio),
                MUTED,
                dots=(ratio,),
            )
            for index, ratio in judgement.ratios.items()
            if ratio is not None
        ]
        rows.append(_pooled(f"all {over.split()[0]}", judgement.primary, ()))
    lines = [Line(f"{arms_of([judgement]).ratio}; grey band: equivalent")]
    chart, axes = _plot(
        f"{name}, {over.split()[0]} one by one",
        rows,
        lines,
        caption,
        row_in=0.3,
        sides_in=(0.95, 1.35),
    )
    for y, row in enumerate(rows):
        _text(axes, -0.03, y, row.label, INK, ha="right")
        _text(axes, 1.03, y, row.result, row.colour)
        _lane(axes, y - 0.5, y + 0.5)
        _draw_row(axes, y, row)
    return chart


def _pooled(label: str, comparison: Comparison, dots: tuple[float, ...]) -> _Row:
    return _Row(
        label=label,
        result=f"{wording.ratio(comparison)}\n{comparison.verdict}",
        colour=OUTCOME[comparison.verdict],
        sublabel=f"{wording.metric(comparison.metric)} ({comparison.direction} is better)",
        ratio=comparison.ratio,
        low=comparison.low,
        high=comparison.high,
        dots=dots,
    )


def _plot(
    title: str,
    rows: Sequence[_Row],
    lines: Sequence[Line],
    caption: str,
    *,
    row_in: float,
    sides_in: tuple[float, float] = (0.25, 0.25),
) -> tuple[Chart, Axes]:
    """An empty plot with a logarithmic axis of ratios, and one unit of height for each row."""
    height, (left, right) = max(len(rows), 1), sides_in
    frame = Frame(plots=(row_in * height,), left=left, right=right, bottom=0.35)
    chart, (axes,) = new_chart(title, lines, caption, frame)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    _ratio_axis(axes, [number for row in rows for number in row.numbers])
    return chart, axes


def _text(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    colour: str,
    ha: Literal["left", "right"] = "left",
    weight: str = "normal",
) -> None:
    """Text at a share of the width, and at the height of a row."""
    place = axes.get_yaxis_transform()
    axes.text(x, y, text, transform=place, size=8, color=colour, ha=ha, va="center", weight=weight)


def _lane(axes: Axes, top: float, bottom: float) -> None:
    """The band of equivalence and the line of no difference, behind one row."""
    axes.fill_between(_BAND, top, bottom, color=BAND, linewidth=0, zorder=0.4)
    axes.vlines(1, top, bottom, color=MUTED, linewidth=1, zorder=1)


def _draw_row(axes: Axes, y: float, row: _Row) -> None:
    # Blocks lie just below their interval, which would hide them.
    below = 0.0 if row.ratio is None else 0.22
    heights = [y + below] * len(row.dots)
    axes.scatter(row.dots, heights, s=18, color=MUTED, alpha=0.6, linewidths=0)
    if row.low is not None and row.high is not None:
        # An end at zero or infinity is drawn to the edge.
        left, right = axes.get_xlim()
        ends = [max(row.low, left), min(row.high, right)]
        axes.plot(ends, [y, y], color=row.colour, linewidth=2.4)
    if row.ratio is not None:
        axes.plot(row.ratio, y, "D", color=row.colour, markersize=6.5, markeredgecolor="white")


def _ratio_axis(axes: Axes, numbers: Sequence[float]) -> None:
    """Logarithmic, so that halving and doubling are equally far from 1."""
    axes.set_xscale("log")
    low = min(*numbers, *_NARROWEST) / 1.08
    high = max(*numbers, *_NARROWEST) * 1.08
    axes.set_xlim(low, high)
    ticks = next(ticks for reach, ticks in _TICKS if high / low <= reach)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
