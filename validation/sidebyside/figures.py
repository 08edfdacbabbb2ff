"""From rounds to figures: medians, ranges, and ratios to the reference."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

M = TypeVar("M")
"""What was measured of one program in one round."""

Of = Callable[[M, Mapping[str, M]], float | None]
"""A value of a program's measurement, given those of the same round; None for none."""


@dataclass(frozen=True, slots=True)
class Metric(Generic[M]):
    """A column, in `unit`; `kernel` is the part of it that was spent in the kernel."""

    key: str
    title: str
    unit: str
    of: Of[M]
    kernel: Of[M] | None = None


def microseconds(
    key: str, title: str, cpu_s: Callable[[M], float], kernel_s: Callable[[M], float]
) -> Metric[M]:
    """A column of CPU time, with the kernel's part of it."""
    return Metric(
        key, title, "µs", lambda one, _: cpu_s(one) * 1e6, lambda one, _: kernel_s(one) * 1e6
    )


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
"""Figures by program and by the metric's key; a metric without values is left out."""


def summarize(
    rounds: Sequence[Mapping[str, M]],
    metrics: Sequence[Metric[M]],
    reference: str,
    incomparable: Collection[str] = (),
) -> Figures:
    """Figures of every program of `rounds`.

    They have ratios where `reference` is one of them, except those of the `incomparable`.
    """
    plain = {
        name: {
            metric.key: _figure(values, _values(rounds, name, metric.kernel))
            for metric in metrics
            if (values := _values(rounds, name, metric.of))
        }
        for name in rounds[0]
    }
    against = plain.get(reference, {})
    return {
        name: figures
        if name in incomparable
        else {key: _compared(figure, against.get(key)) for key, figure in figures.items()}
        for name, figures in plain.items()
    }


def _values(rounds: Iterable[Mapping[str, M]], name: str, of: Of[M] | None) -> list[float]:
    if of is None:
        return []
    found = (of(measured[name], measured) for measured in rounds)
    return [value for value in found if value is not None]


def _figure(values: Sequence[float], kernel: Sequence[float]) -> Figure:
    part = statistics.median(kernel) if kernel else None
    return Figure(statistics.median(values), min(values), max(values), part)


def _compared(figure: Figure, reference: Figure | None) -> Figure:
    # Of an added latency near 0 or below, as noise makes it, nothing is a multiple.
    if reference is None or reference.median <= 0:
        return figure
    return replace(figure, ratio=figure.median / reference.median)
