"""From rounds to figures, and figures as a table: medians, ranges, ratios to a reference."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench.console import as_text

M = TypeVar("M")
"""What was measured of one program in one round."""

Round = Mapping[str, M]
"""What was measured in one round, by the program's name."""

Of = Callable[[M, Round[M]], float | None]
"""A value of a program's measurement, given those of the same round; None if it has none."""

# As wide as a table is, so that a log without a width of its own holds it.
_NARROWEST = 128


@dataclass(frozen=True, slots=True)
class Metric(Generic[M]):
    """A column. Values are shown times `scale`, in `unit`.

    `kernel` is the part of the value that was spent in the kernel.
    """

    key: str
    title: str
    unit: str
    of: Of[M]
    kernel: Of[M] | None = None
    scale: float = 1.0


def cpu_metric(
    key: str, title: str, cpu_s: Callable[[M], tuple[float, float]], per: int = 1
) -> Metric[M]:
    """A column of CPU time in microseconds, with the kernel's part of it.

    `cpu_s` returns both in seconds, for `per` of what the column is about.
    """
    scale = 1e6 / per
    return Metric(
        key, title, "µs", lambda one, _: cpu_s(one)[0] * scale, lambda one, _: cpu_s(one)[1] * scale
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric over the rounds: median, lowest and highest value.

    `kernel` is the median of the kernel's part, `ratio` that to the reference, if any.
    """

    median: float
    low: float
    high: float
    kernel: float | None = None
    ratio: float | None = None


Figures = Mapping[str, Mapping[str, Figure]]
"""Figures by program and by the metric's key; a metric without values is left out."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table."""

    label: str
    cells: Sequence[str] = ()
    style: str = ""


def render(
    titles: Sequence[str],
    rows: Iterable[Row],
    remarks: Iterable[str],
    *,
    width: int,
    colour: bool,
) -> str:
    """A table with `titles` over its columns, then a line for each of `remarks`."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    first, *others = titles
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(row.label), *map(Text, row.cells), style=row.style)
    parts: list[Table | Text] = [table, *map(Text, remarks)]
    return as_text(parts, width=width, narrowest=_NARROWEST, colour=colour)


@dataclass(frozen=True, slots=True)
class Comparison(Generic[M]):
    """What is measured side by side, and what it is compared with.

    `note` says what was measured and what was not. Every program but the `incomparable` has
    ratios to the `reference`: of medians or, `within_rounds`, the median of each round's ratio.
    """

    note: str
    metrics: tuple[Metric[M], ...]
    reference: str
    incomparable: Collection[str] = ()
    within_rounds: bool = False

    def figures(self, rounds: Sequence[Round[M]]) -> Figures:
        """The figures of every program of `rounds`."""
        return {
            name: {
                metric.key: self._figure(rounds, name, metric)
                for metric in self.metrics
                if _values(rounds, name, metric.of)
            }
            for name in rounds[0]
        }

    def text(
        self, figures: Figures, remarks: Iterable[str], *, width: int, colour: bool = False
    ) -> str:
        """The table, a line for each of `remarks`, and the note."""
        titles = ["median\nrange", *(f"{one.title}\n{one.unit}" for one in self.metrics)]
        rows = (row for name in figures for row in self._rows(name, figures[name]))
        return render(titles, rows, (*remarks, self.note), width=width, colour=colour)

    def _figure(self, rounds: Sequence[Round[M]], name: str, metric: Metric[M]) -> Figure:
        values, kernel = _values(rounds, name, metric.of), _values(rounds, name, metric.kernel)
        found = list(values.values())
        return Figure(
            median=statistics.median(found),
            low=min(found),
            high=max(found),
            kernel=statistics.median(kernel.values()) if kernel else None,
            ratio=None if name in self.incomparable else self._ratio(rounds, values, metric),
        )

    def _ratio(
        self, rounds: Sequence[Round[M]], values: Mapping[int, float], metric: Metric[M]
    ) -> float | None:
        others = _values(rounds, self.reference, metric.of)
        if self.within_rounds:
            ratios = [values[number] / others[number] for number in values.keys() & others.keys()]
            return statistics.median(ratios) if ratios else None
        reference = statistics.median(others.values()) if others else 0.0
        # An added latency near 0 or below, as noise makes it, has no multiples.
        return statistics.median(values.values()) / reference if reference > 0 else None

    def _rows(self, name: str, figures: Mapping[str, Figure]) -> Iterator[Row]:
        """Lines of a program: medians, ranges, the kernel's part, multiples of the reference."""

        def cells(text: Callable[[Figure, float], str]) -> list[str]:
            found = ((figures.get(metric.key), metric.scale) for metric in self.metrics)
            return ["-" if figure is None else text(figure, scale) for figure, scale in found]

        yield Row(name, cells(lambda one, scale: _digits(one.median * scale)), style="bold")
        yield Row("", cells(_range), style="dim")
        if any(figure.kernel is not None for figure in figures.values()):
            kernel = cells(lambda one, scale: _digits(one.kernel and one.kernel * scale))
            yield Row("kernel", kernel, style="dim")
        if name != self.reference and any(figure.ratio for figure in figures.values()):
            yield Row(f"x {self.reference}", cells(_multiple), style="dim")
        yield Row("")


def _values(rounds: Sequence[Round[M]], name: str, of: Of[M] | None) -> dict[int, float]:
    """What `of` finds of a program, by the number of the round; empty without `of`."""
    if of is None:
        return {}
    present = {number: one for number, one in enumerate(rounds) if name in one}
    found = {number: of(one[name], one) for number, one in present.items()}
    return {number: value for number, value in found.items() if value is not None}


def _range(figure: Figure, scale: float) -> str:
    return f"{_digits(figure.low * scale)}–{_digits(figure.high * scale)}"


def _multiple(figure: Figure, _scale: float) -> str:
    if figure.ratio is None:
        return "-"
    return f"{figure.ratio:.3f}" if figure.ratio < 2 else f"{figure.ratio:.2f}"


def _digits(value: float | None) -> str:
    """At least three significant digits, in at most five characters below a million; "" of None."""
    if value is None:
        return ""
    if abs(value) >= 9_999.5:
        return f"{value / 1000:.1f}k"
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
