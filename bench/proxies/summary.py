"""From rounds to figures: medians, ranges, and ratios to the reference."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.proxies.measurement import CONNECTIONS, OPEN_STREAMS, Measurement
from bench.proxies.rounds import Round


@dataclass(frozen=True, slots=True)
class Metric:
    """A column: `of` takes a server's measurement and the source's of the same round.

    `value` of `of` is in `unit`; None where there is nothing to tell.
    """

    key: str
    title: str
    unit: str
    of: Callable[[Measurement, Measurement], float | None]


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric over the rounds: median, least and greatest; `ratio` of medians, if any."""

    median: float
    low: float
    high: float
    ratio: float | None = None


Figures = Mapping[str, Mapping[str, Figure]]
"""Figures by server and by the metric's key; a metric without values is left out."""


def _added(p: Callable[[Measurement], float]) -> Callable[[Measurement, Measurement], float | None]:
    """Microseconds that `p` is more than the source's own; nothing for the source itself."""
    return lambda one, source: None if one is source else (p(one) - p(source)) * 1e6


METRICS = (
    Metric("requests_per_s", f"at {CONNECTIONS}", "req/s", lambda one, _: one.requests_per_s),
    Metric("p50_ms", f"p50 at {CONNECTIONS}", "ms", lambda one, _: one.p50_s * 1e3),
    Metric("p99_ms", f"p99 at {CONNECTIONS}", "ms", lambda one, _: one.p99_s * 1e3),
    Metric("added_p50_us", "added p50", "µs", _added(lambda one: one.lone_p50_s)),
    Metric("added_p99_us", "added p99", "µs", _added(lambda one: one.lone_p99_s)),
    Metric("core_percent", "its core", "% busy", lambda one, _: one.core_share * 1e2),
    Metric("request_cpu_us", "CPU/JSON", "µs", lambda one, _: one.request_cpu_s * 1e6),
    Metric("burst_cpu_us", "CPU/SSE", "µs", lambda one, _: one.burst_cpu_s * 1e6),
    Metric("chunk_cpu_us", "CPU/chunk", "µs", lambda one, _: one.chunk_cpu_s * 1e6),
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
            metric.key: _figure(values)
            for metric in METRICS
            if (values := list(_values(rounds, name, source, metric)))
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


def _values(rounds: Iterable[Round], name: str, source: str, metric: Metric) -> Iterable[float]:
    for measured in rounds:
        value = metric.of(measured[name], measured[source])
        if value is not None:
            yield value


def _figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.median(values), min(values), max(values))


def _compared(figure: Figure, reference: Figure | None) -> Figure:
    # Of an added latency near 0 or below, as noise makes it, nothing is a multiple.
    if reference is None or reference.median <= 0:
        return figure
    return Figure(figure.median, figure.low, figure.high, figure.median / reference.median)
