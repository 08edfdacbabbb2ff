"""From rounds to figures: medians, ranges, and ratios to the reference."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.proxies.measurement import CONNECTIONS, OPEN_STREAMS, Measurement
from bench.proxies.rounds import Round

Of = Callable[[Measurement, Measurement], float | None]
"""A value of a server's measurement and the source's of the same round; None for none."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A column, in `unit`; `kernel` is the part of it that was spent in the kernel."""

    key: str
    title: str
    unit: str
    of: Of
    kernel: Of | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric over the rounds: median, least and greatest.

    `ratio` is that of medians, and `kernel` the median of the kernel's part, if any.
    """

    median: float
    low: float
    high: float
    kernel: float | None = None
    ratio: float | None = None


Figures = Mapping[str, Mapping[str, Figure]]
"""Figures by server and by the metric's key; a metric without values is left out."""


def _added(p: Callable[[Measurement], float]) -> Of:
    """Microseconds that `p` is more than the source's own; nothing for the source itself."""
    return lambda one, source: None if one is source else (p(one) - p(source)) * 1e6


METRICS = (
    Metric("requests_per_s", f"at {CONNECTIONS}", "req/s", lambda one, _: one.requests_per_s),
    Metric("p50_ms", f"p50 at {CONNECTIONS}", "ms", lambda one, _: one.p50_s * 1e3),
    Metric("p99_ms", f"p99 at {CONNECTIONS}", "ms", lambda one, _: one.p99_s * 1e3),
    Metric("added_p50_us", "added p50", "µs", _added(lambda one: one.lone_p50_s)),
    Metric("added_p99_us", "added p99", "µs", _added(lambda one: one.lone_p99_s)),
    Metric("core_percent", "its core", "% busy", lambda one, _: one.core_share * 1e2),
    Metric(
        "request_cpu_us",
        "CPU/JSON",
        "µs",
        lambda one, _: one.request_cpu_s * 1e6,
        lambda one, _: one.request_kernel_s * 1e6,
    ),
    Metric(
        "burst_cpu_us",
        "CPU/SSE",
        "µs",
        lambda one, _: one.burst_cpu_s * 1e6,
        lambda one, _: one.burst_kernel_s * 1e6,
    ),
    Metric(
        "chunk_cpu_us",
        "CPU/chunk",
        "µs",
        lambda one, _: one.chunk_cpu_s * 1e6,
        lambda one, _: one.chunk_kernel_s * 1e6,
    ),
    Metric(
        "rss_mib",
        f"RSS at {OPEN_STREAMS:,}",
        "MiB",
        lambda one, _: None if one.rss_bytes is None else one.rss_bytes / 2**20,
    ),
)


def summarize(rounds: Sequence[Round], source: str, reference: str) -> Figures:
    """Figures of every server of `rounds`.

    Proxies have ratios where `reference` is one of them; the source has none.
    """
    plain = {
        name: {
            metric.key: _figure(values, _values(rounds, name, source, metric.kernel))
            for metric in METRICS
            if (values := _values(rounds, name, source, metric.of))
        }
        for name in rounds[0]
    }
    against = plain.get(reference, {})
    return {
        name: {key: _compared(figure, against.get(key)) for key, figure in figures.items()}
        if name != source
        else figures
        for name, figures in plain.items()
    }


def _values(rounds: Iterable[Round], name: str, source: str, of: Of | None) -> list[float]:
    if of is None:
        return []
    found = (of(measured[name], measured[source]) for measured in rounds)
    return [value for value in found if value is not None]


def _figure(values: Sequence[float], kernel: Sequence[float]) -> Figure:
    part = statistics.median(kernel) if kernel else None
    return Figure(statistics.median(values), min(values), max(values), part)


def _compared(figure: Figure, reference: Figure | None) -> Figure:
    # Of an added latency near 0 or below, as noise makes it, nothing is a multiple.
    if reference is None or reference.median <= 0:
        return figure
    return replace(figure, ratio=figure.median / reference.median)
