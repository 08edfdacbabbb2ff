"""The table that a calibration ends with, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench.analysis.bounds import DEFAULT_BOUNDS
from bench.console import as_text
from bench.load.accuracy.level import Reading
from bench.records import Spread

NO_ENGINE = (
    "No engine was measured: a source that tells when it sent each chunk stood in for one, and "
    "all figures are about the load generator alone."
)
READING = (
    "Error: the size of what the client measured − what the source tells of the same request. "
    "TTFT and E2E begin before the request has left the client and end when a chunk has come, so "
    "that two ways over loopback and the source's waking up are in their errors."
)
_NARROWEST = 100
_COLUMNS = (
    ("p50", "ms"),
    ("p95", "ms"),
    ("p99", "ms"),
    ("max", "ms"),
    ("", "n"),
    ("client", "CPU"),
    ("loop lag", "p99 ms"),
    ("source late", "p99 ms"),
)
# The share of the time between two chunks by which the source may be late unmentioned.
_LATE_SHARE = 0.1


def render(readings: Sequence[Reading], remarks: Iterable[str], *, width: int, colour: bool) -> str:
    """The table, then a line for each thing to know: what `readings` show, then `remarks`."""
    lines = (*_late(readings), *_disturbed(readings), *remarks, READING, NO_ENGINE)
    parts: list[Table | Text] = [_table(readings), *map(Text, lines)]
    return as_text(parts, width=width, narrowest=_NARROWEST, colour=colour)


def _table(readings: Sequence[Reading]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("open\nstreams", justify="right", no_wrap=True)
    table.add_column("error of", no_wrap=True)
    for title, unit in _COLUMNS:
        table.add_column(f"{title}\n{unit}", justify="right", no_wrap=True)
    for reading in readings:
        accuracy, instrument = reading.accuracy, reading.instrument
        beside = (
            f"{100 * (instrument.cpu_share or 0.0):.0f} %",
            _ms(instrument.loop_lag_p99_s or 0.0),
            _ms(reading.source_late.p99_s),
        )
        table.add_row(f"{accuracy.streams:,}", "TTFT", *_cells(accuracy.ttft), *beside)
        table.add_row("", "ITL", *_cells(accuracy.itl))
        table.add_row("", "E2E", *_cells(accuracy.e2e))
        table.add_row()
    return table


def _cells(spread: Spread) -> Iterator[str]:
    yield from map(_ms, (spread.p50_s, spread.p95_s, spread.p99_s, spread.max_s))
    yield f"{spread.n:,}"


def _late(readings: Sequence[Reading]) -> Iterator[str]:
    for reading in readings:
        late_s, every_s = reading.source_late.p99_s, reading.level.every_ms / 1000
        if late_s > _LATE_SHARE * every_s:
            yield (
                f"At {reading.level} the source itself was late, by"
                f" {_ms(late_s)} ms (p99) where chunks are {1000 * every_s:.0f} ms apart. Its"
                " times say so, so that this is no error of the client; but chunks came less"
                " evenly than planned."
            )


def _disturbed(readings: Sequence[Reading]) -> Iterator[str]:
    for reading in readings:
        share = reading.instrument.foreign_cpu_share
        if share is None:
            yield "How much CPU time other processes took is unknown."
        elif share > DEFAULT_BOUNDS.foreign_cpu_share:
            yield (
                f"At {reading.level} other processes took"
                f" {100 * share:.0f} % of the CPU time: measure again on an idle machine."
            )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3f}"
