"""The table that a run ends with, and what is to be said of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.proxies.answers import CHUNK_EVERY_MS, CHUNKS
from bench.proxies.measurement import OPEN_STREAMS
from bench.proxies.rounds import Round
from bench.proxies.summary import METRICS, Figure, Figures

ONLY_PROXIES = (
    "Only proxies were measured, with a synthetic source behind them: no engine ran, and "
    "nothing here says how fast a model is served."
)
LOADS = (
    f"CPU/JSON: of a whole answer of 1 KB, as are latencies and rates. CPU/SSE: of a stream of "
    f"{CHUNKS} events that the source sends in one write. CPU/chunk: of one of {CHUNKS} events "
    f"sent {CHUNK_EVERY_MS} ms apart. Kernel: the part of it that system calls took, "
    "which no proxy of this kind can do without."
)
READING = (
    "source: no proxy in between, and the source's own CPU. Where a proxy's core was not busy, "
    "the load or the source was the limit: compare CPU there, not requests per second."
)
# As wide as the table is, so that a log without a width of its own holds it.
_NARROWEST = 120


def render(
    figures: Figures,
    rounds: Sequence[Round],
    reference: str,
    remarks: Iterable[str],
    *,
    width: int,
    colour: bool,
) -> str:
    """The table, then a line for each thing to know: what `rounds` show, then `remarks`."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=max(width, _NARROWEST),
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        legacy_windows=False,
    )
    console.print(_table(figures, reference))
    for remark in (*_failures(rounds), *remarks, LOADS, READING, ONLY_PROXIES):
        console.print(Text(remark))
    return "\n".join(line.rstrip() for line in stream.getvalue().split("\n"))


def absences(absent: Mapping[str, str]) -> list[str]:
    """A line for each proxy that is not installed; `absent` maps names to install lines."""
    return [f"{name} is absent; install it with: {line}" for name, line in absent.items()]


def _table(figures: Figures, reference: str) -> Table:
    """Lines of a server: medians, ranges, the kernel's part, multiples of the reference."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("median\nrange", no_wrap=True)
    for metric in METRICS:
        table.add_column(f"{metric.title}\n{metric.unit}", justify="right", no_wrap=True)
    for name, row in figures.items():
        table.add_row(Text(name, style="bold"), *_cells(row, _median))
        table.add_row("", *_cells(row, _range), style="dim")
        table.add_row("kernel", *_cells(row, _kernel), style="dim")
        if name != reference and any(figure.ratio for figure in row.values()):
            table.add_row(Text(f"x {reference}"), *_cells(row, _ratio), style="dim")
        table.add_row()
    return table


def _cells(row: Mapping[str, Figure], say: Callable[[Figure], str]) -> Iterator[Text]:
    for metric in METRICS:
        figure = row.get(metric.key)
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


def _failures(rounds: Sequence[Round]) -> Iterator[str]:
    for name in rounds[0]:
        errors = sum(sum(measured[name].errors.values()) for measured in rounds)
        if errors:
            kinds = sorted({kind for measured in rounds for kind in measured[name].errors})
            yield f"{name}: {errors:,} errors ({', '.join(kinds)}); its figures do not count"
        opened = min(measured[name].open_streams for measured in rounds)
        if opened < OPEN_STREAMS:
            yield f"{name}: only {opened:,} of {OPEN_STREAMS:,} streams could be held open"
