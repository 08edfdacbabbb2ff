"""The ratio of each block, and of all together with its interval."""

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
from reports.run import arms_of

_BAND = (math.exp(-ALIKE), math.exp(ALIKE))
# Few enough ticks that their labels do not overlap: by how far the axis reaches.
_TICKS = (
    (8.0, (0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5)),
    (200.0, (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)),
    (math.inf, (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6)),
)
_ROW_IN = 0.3
_NARROWEST = (0.7, 1 / 0.7)
_WIDEST = (1e-3, 1e3)


@dataclass(frozen=True, slots=True)
class Row:
    """The ratio of one block, or of all with its interval, or an effect."""

    label: str
    result: str
    colour: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    block: float | None = None

    @property
    def numbers(self) -> list[float]:
        """What the axis has to reach."""
        return _finite((self.ratio, self.low, self.high, self.block))


def _finite(ratios: Iterable[float | None]) -> list[float]:
    return [one for one in ratios if one is not None and math.isfinite(one) and one > 0]


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """The ratios block by block, where a block has one."""
    if case.judgement.effects:
        yield blocks(case.judgement, caption)


def blocks(judgement: Judgement, caption: str) -> Chart:
    """The primary metric of one case: the ratio of each block, and all together."""
    name, over, rows = "Primary metric", "blocks", []
    if judgement.primary is not None:
        name, over = wording.metric(judgement.primary.metric), judgement.primary.over
        rows = [
            Row(
                wording.block(index, over),
                wording.factor(ratio),
                MUTED,
                block=ratio,
            )
            for index, ratio in judgement.ratios.items()
            if ratio is not None
        ]
        rows.append(_pooled(f"all {over.split()[0]}", judgement.primary))
    lines = [Line(f"{arms_of([judgement]).ratio}; grey band: equivalent")]
    title = f"{name}, {over.split()[0]} one by one"
    return forest(title, lines, rows, caption, left_in=0.95)


def forest(
    title: str, lines: Sequence[Line], rows: Sequence[Row], caption: str, *, left_in: float
) -> Chart:
    """Rows over one axis of ratios, with labels of `left_in` inches on their left."""
    height = max(len(rows), 1)
    frame = Frame(plots=(_ROW_IN * height,), left=left_in, right=1.35, bottom=0.35)
    values = (f"{row.label.strip()} {row.result.replace(chr(10), ', ')}" for row in rows)
    chart, (axes,) = new_chart(title, lines, caption, frame, values)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    _set_ratio_axis(axes, [number for row in rows for number in row.numbers])
    for y, row in enumerate(rows):
        _text(axes, -0.03, y, row.label, INK, ha="right")
        _text(axes, 1.03, y, row.result, row.colour)
        _lane(axes, y - 0.5, y + 0.5)
        _draw_row(axes, y, row)
    return chart


def _pooled(label: str, comparison: Comparison) -> Row:
    return Row(
        label=label,
        result=f"{wording.ratio(comparison)}\n{comparison.verdict}",
        colour=OUTCOME[comparison.verdict],
        ratio=comparison.ratio,
        low=comparison.low,
        high=comparison.high,
    )


def _text(
    axes: Axes, x: float, y: float, text: str, colour: str, ha: Literal["left", "right"] = "left"
) -> None:
    """Text at a share of the width, and at the height of a row."""
    place = axes.get_yaxis_transform()
    axes.text(x, y, text, transform=place, size=8, color=colour, ha=ha, va="center")


def _lane(axes: Axes, top: float, bottom: float) -> None:
    """The band of equivalence and the line of no difference, behind one row."""
    axes.fill_between(_BAND, top, bottom, color=BAND, linewidth=0, zorder=0.4)
    axes.vlines(1, top, bottom, color=MUTED, linewidth=1, zorder=1)


def _draw_row(axes: Axes, y: float, row: Row) -> None:
    if row.block is not None:
        axes.scatter(row.block, y, s=18, color=MUTED, alpha=0.6, linewidths=0)
    if row.low is not None and row.high is not None:
        # An end at zero or infinity is drawn to the edge.
        left, right = axes.get_xlim()
        ends = [max(row.low, left), min(row.high, right)]
        axes.plot(ends, [y, y], color=row.colour, linewidth=2.4)
    if row.ratio is not None:
        axes.plot(row.ratio, y, "D", color=row.colour, markersize=6.5, markeredgecolor="white")


def _set_ratio_axis(axes: Axes, numbers: Sequence[float]) -> None:
    axes.set_xscale("log")
    low, high, ticks = ratio_axis(numbers)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def ratio_axis(ratios: Iterable[float | None]) -> tuple[float, float, list[float]]:
    """Ends and ticks of an axis that has the ratios on it, of extreme ones only what is of use.

    It is to be logarithmic, so that halving and doubling are equally far from 1.
    """
    known = (min(max(one, _WIDEST[0]), _WIDEST[1]) for one in _finite(ratios))
    numbers = [*known, *_NARROWEST]
    low, high = min(numbers) / 1.08, max(numbers) * 1.08
    ticks = next(ticks for reach, ticks in _TICKS if high / low <= reach)
    return low, high, [tick for tick in ticks if low <= tick <= high]
