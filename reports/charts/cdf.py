"""Latency distribution: how many of all requests were answered within a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes

from bench.analysis.estimates import percentile
from bench.analysis.judgement import Case
from bench.analysis.timings import scheduled_e2e_s, scheduled_ttft_s
from bench.records import Sample
from reports import wording
from reports.charts.series import series_of
from reports.charts.style import MUTED, Chart, Frame, Line, Look, empty, new_chart, seconds_axis

_MARKS = (50, 95)
_MOST_POINTS = 250


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """None where the load was searched for: trials at several loads have no common latency."""
    if case.judgement.scenario.search_step is None:
        yield latency_cdf(case, "Scheduled TTFT", scheduled_ttft_s, caption)
        yield latency_cdf(case, "Scheduled E2E", scheduled_e2e_s, caption)


def latency_cdf(case: Case, what: str, latency: Callable[[Sample], float], caption: str) -> Chart:
    """Both arms' distribution of `what`; it ends below 100 % where requests failed."""
    arms = [(arm, sorted(map(latency, arm.samples))) for arm in series_of(case)]
    lines = [Line(_legend(arm.name, values), arm.colour, arm.look.dot) for arm, values in arms]
    chart, (axes,) = new_chart(f"{what}: distribution", lines, caption, Frame(plots=(2.35,)))
    if not any(_answered(values) for _, values in arms):
        empty(axes, "no request succeeded" if arms else wording.NO_DATA)
        return chart
    for mark in _MARKS:
        axes.axhline(mark, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    for arm, values in arms:
        _draw(axes, values, arm.look)
    seconds_axis(axes, "x")
    axes.set(ylim=(0, 102), yticks=[0, 25, 50, 75, 95], xlabel="time since the request was due")
    axes.yaxis.set_major_formatter("{x:.0f} %")
    return chart


def _answered(latencies: Sequence[float]) -> list[float]:
    """The latencies of requests that did not fail."""
    return [one for one in latencies if math.isfinite(one)]


def _legend(name: str, latencies: Sequence[float]) -> str:
    marks = ", ".join(
        f"p{mark} {wording.quantity(percentile(latencies, mark), 's')}" for mark in _MARKS
    )
    failed = len(latencies) - len(_answered(latencies))
    failures = f", {failed} failed" if failed else ""
    return f"{name}: {marks}, n {len(latencies)}{failures}"


def _draw(axes: Axes, latencies: Sequence[float], look: Look) -> None:
    """The curve of ascending latencies in seconds."""
    answered = _answered(latencies)
    if not answered:
        return
    # Some hundred points draw the curve as well as ten thousand do, and load faster.
    steps = min(len(answered), _MOST_POINTS)
    places = np.linspace(0, len(answered) - 1, steps).round().astype(int)
    shares = (places + 1) / len(latencies) * 100
    times = np.array(answered)[places]
    axes.step(times, shares, where="post", color=look.colour, linestyle=look.dashes, linewidth=2)
    for mark in _MARKS:
        at_s = percentile(latencies, mark)
        if at_s is not None and math.isfinite(at_s):
            axes.plot(
                *(at_s, mark, look.marker), color=look.colour, markeredgecolor="white", zorder=3
            )
