"""One block over time: every request's first token, requests in flight, queues in replicas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.analysis.estimates import percentile
from bench.analysis.judgement import Case
from bench.analysis.timings import scheduled_ttft_s
from bench.records import Sample, ServerSeries, Trial
from reports import wording
from reports.charts.series import (
    Series,
    draw_levels,
    in_flight,
    scraped_replicas,
    titled,
    typical_trials,
)
from reports.charts.style import (
    OTHERS,
    Chart,
    Frame,
    Line,
    Look,
    empty,
    new_chart,
    seconds_axis,
    subtitle,
)

_FRAME = Frame(plots=(1.75, 1.1), head=0.3)
_TTFT_IN, _QUEUE_IN = 1.35, 0.85
# More points than this become one picture inside the chart, so that it stays small.
_MOST_SHAPES = 1000


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """None where the load was searched for; queues only where a replica was scraped."""
    if case.judgement.scenario.search_step is None:
        yield timeline(case, caption)
        if any(arm.first.server for arm in typical_trials(case)):
            yield queues(case, caption)


def timeline(case: Case, caption: str) -> Chart:
    """The first trial of each arm in the typical block: both have the same arrivals."""
    arms = typical_trials(case)
    title = titled("Over time", arms)
    if len({arm.first.schedule_sha256 for arm in arms} - {""}) == 1 < len(arms):
        title = f"{title}: the same arrivals"
    lines = [Line(_requests(arm), arm.colour, arm.look.dot) for arm in arms]
    values = (
        f"{arm.name}: {_latency(arm)}, at most {in_flight(arm.first)[1].max():g} in flight"
        for arm in arms
    )
    chart, (latency, flight) = new_chart(title, lines, caption, _FRAME, values)
    if not arms:
        empty(latency)
        empty(flight)
        return chart
    for arm in arms:
        _draw_ttfts(latency, arm.samples, arm.look)
        times, counts = in_flight(arm.first)
        line = {"color": arm.colour, "linestyle": arm.look.dashes, "linewidth": 1.5}
        flight.step(times, counts, where="post", **line)
    seconds_axis(latency, "y")
    latency.tick_params(labelbottom=False)
    subtitle(latency, "scheduled TTFT of each request, by the time it was due")
    subtitle(flight, "requests in flight")
    flight.set_xlabel("seconds since the start of the trial")
    flight.set_ylim(bottom=0)
    flight.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    flight.set_xlim(left=0)
    return chart


def queues(case: Case, caption: str) -> Chart:
    """For each arm: requests as dots in the look of their replica, and its queue depth.

    The first trial of each arm in the block whose effect is the middle one. Both arms share
    their axes. A line is broken where metrics could not be read.
    """
    arms = typical_trials(case)
    looks, lines = scraped_replicas(arms)
    frame = Frame(plots=(_TTFT_IN, _QUEUE_IN) * max(1, len(arms)), gap=0.45, head=0.3)
    values = (
        f"{arm.name}, {series.replica}: at most {_deepest(series)} waiting"
        for arm in arms
        for series in arm.first.server
    )
    title = titled("Queues in the replicas", arms)
    chart, axes = new_chart(title, lines, caption, frame, values)
    if not arms:
        for one in axes:
            empty(one)
        return chart
    latencies, depths = axes[::2], axes[1::2]
    for arm, latency, depth in zip(arms, latencies, depths, strict=True):
        _draw_by_replica(arm, looks, latency, depth)
    _share_heights([one for one in latencies if one.get_yscale() == "log"])
    _share_heights(depths)
    for one in depths:
        one.set_ylim(bottom=0.0)
    for one in axes[:-1]:
        one.tick_params(labelbottom=False)
    axes[-1].set_xlim(0, max(arm.first.elapsed_s for arm in arms))
    axes[-1].set_xlabel("seconds since the start of the trial")
    return chart


def _requests(arm: Series) -> str:
    samples = arm.samples
    failed = sum(not sample.ok for sample in samples)
    failures = f", {failed} failed (hollow, where they were due)" if failed else ""
    return f"{arm.name}: {wording.count(len(samples), 'request')}{failures}"


def _latency(arm: Series) -> str:
    times = list(map(scheduled_ttft_s, arm.samples))
    marks = (f"p{mark} {wording.quantity(percentile(times, mark), 's')}" for mark in (50, 95))
    return f"scheduled TTFT {', '.join(marks)}"


def _deepest(series: ServerSeries) -> str:
    waiting = (one.waiting for one in series.readings)
    return wording.whole(max((one for one in waiting if one is not None), default=None))


def _draw_ttfts(axes: Axes, samples: Sequence[Sample], look: Look) -> None:
    """Scheduled TTFT by due time; failed requests are hollow, on the upper edge."""
    points = [(one.scheduled_s, scheduled_ttft_s(one)) for one in samples]
    good = [(at_s, ttft_s) for at_s, ttft_s in points if math.isfinite(ttft_s)]
    lost = [at_s for at_s, ttft_s in points if math.isinf(ttft_s)]
    axes.scatter(
        [at_s for at_s, _ in good],
        [ttft_s for _, ttft_s in good],
        s=16,
        color=look.colour,
        marker=look.marker,
        alpha=0.75,
        linewidths=0,
        rasterized=len(good) > _MOST_SHAPES,
    )
    # On the upper edge: they never came, whatever the scale.
    axes.scatter(
        lost,
        [1.0] * len(lost),
        s=26,
        marker=look.marker,
        facecolors="none",
        edgecolors=look.colour,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )


def _draw_by_replica(arm: Series, looks: dict[str, Look], latency: Axes, depth: Axes) -> None:
    trial = arm.first
    for name in dict.fromkeys(sample.replica for sample in trial.samples):
        served = [sample for sample in trial.samples if sample.replica == name]
        _draw_ttfts(latency, served, looks.get(name or "", OTHERS))
    for series in trial.server:
        times = [reading.at_s for reading in series.readings]
        # A line is broken at what is not a number.
        levels = [math.nan if one.waiting is None else one.waiting for one in series.readings]
        draw_levels(depth, times, levels, looks.get(series.replica, OTHERS))
    if any(sample.ok for sample in trial.samples):
        seconds_axis(latency, "y")
    else:
        latency.set_yticks([])
    subtitle(latency, f"{arm.name}: scheduled TTFT of each request, by the time it was due")
    subtitle(depth, f"{arm.name}: requests waiting in each replica{_unread(trial)}")
    depth.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))


def _unread(trial: Trial) -> str:
    unread = [
        series.replica
        for series in trial.server
        if all(reading.waiting is None for reading in series.readings)
    ]
    return f" ({', '.join(unread)}: not readable)" if unread else ""


def _share_heights(axes: Sequence[Axes]) -> None:
    """The same vertical axis for all, wide enough for each."""
    limits = [one.get_ylim() for one in axes]
    for one in axes:
        one.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
