"""The table that a run ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench.console import as_text
from validation.sidebyside.figures import Figure, Figures, M, Metric

# As wide as the table is, so that a log without a width of its own holds it.
_NARROWEST = 120


def render(
    figures: Figures,
    metrics: Sequence[Metric[M]],
    reference: str,
    remarks: Iterable[str],
    *,
    width: int,
    colour: bool,
) -> str:
    """The table with a column for each of `metrics`, then a line for each of `remarks`."""
    parts: list[Table | Text] = [_table(figures, metrics, reference), *map(Text, remarks)]
    return as_text(parts, width=width, narrowest=_NARROWEST, colour=colour)


def _table(figures: Figures, metrics: Sequence[Metric[M]], reference: str) -> Table:
    """Lines of a program: medians, ranges, the kernel's part, multiples of the reference."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("median\nrange", no_wrap=True)
    for metric in metrics:
        table.add_column(f"{metric.title}\n{metric.unit}", justify="right", no_wrap=True)
    for name, row in figures.items():
        found = [row.get(metric.key) for metric in metrics]
        table.add_row(Text(name, style="bold"), *_cells(found, _median))
        table.add_row("", *_cells(found, _range), style="dim")
        if any(figure.kernel is not None for figure in row.values()):
            table.add_row("kernel", *_cells(found, _kernel), style="dim")
        if name != reference and any(figure.ratio for figure in row.values()):
            table.add_row(Text(f"x {reference}"), *_cells(found, _ratio), style="dim")
        table.add_row()
    return table


def _cells(found: Iterable[Figure | None], say: Callable[[Figure], str]) -> Iterator[Text]:
    for figure in found:
        yield Text("-" if figure is None else say(figure))


def _median(figure: Figure) -> str:
    return _three_digits(figure.median)


def _range(figure: Figure) -> str:
    return f"{_three_digits(figure.low)}–{_three_digits(figure.high)}"


def _kernel(figure: Figure) -> str:
    return "" if figure.kernel is None else _three_digits(figure.kernel)


def _ratio(figure: Figure) -> str:
    return "-" if figure.ratio is None else f"{figure.ratio:.2f}"


def _three_digits(value: float) -> str:
    """At least three significant digits, in at most five characters below a million."""
    if abs(value) >= 9_999.5:
        return f"{value / 1000:.1f}k"
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
