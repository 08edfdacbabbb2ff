"""What is to be said of a run of proxies, beside its table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from validation.proxies.measurement import OPEN_STREAMS, Round
from validation.sidebyside.answers import CHUNK_EVERY_MS, CHUNKS

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


def remarks_of(rounds: Sequence[Round]) -> Iterator[str]:
    """What `rounds` show, then how to read the table."""
    yield from _failures(rounds)
    yield from (LOADS, READING, ONLY_PROXIES)


def _failures(rounds: Sequence[Round]) -> Iterator[str]:
    for name in rounds[0]:
        errors = sum(sum(measured[name].errors.values()) for measured in rounds)
        if errors:
            kinds = sorted({kind for measured in rounds for kind in measured[name].errors})
            yield f"{name}: {errors:,} errors ({', '.join(kinds)}); its figures do not count"
        opened = min(measured[name].open_streams for measured in rounds)
        if opened < OPEN_STREAMS:
            yield f"{name}: only {opened:,} of {OPEN_STREAMS:,} streams could be held open"
