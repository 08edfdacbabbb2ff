"""One block over time: every request's first token, and how many are in flight."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.analysis.timings import scheduled_ttft_s
from bench.records import Trial
from reports import wording
from reports.case import Case
from reports.charts.series import in_flight, series_of, typical_block
from reports.charts.style import Chart, Frame, Line, empty, new_chart, seconds_axis, subtitle

# More points than this become one picture inside the chart, so that it stays small.
_MOST_SHAPES = 1000
_FRAME = Frame(plots=(1.75, 1.1), head=0.3)


@dataclass(frozen=True, slots=True)
class _Track:
    name: str
    colour: str
    trial: Trial

    @property
    def legend(self) -> str:
        samples = self.trial.samples
        failed = sum(not sample.ok for sample in samples)
        failures = f", {failed} failed (× where they were due)" if failed else ""
        return f"● {self.name}: {wording.count(len(samples), 'request')}{failures}"


def timeline(case: Case, caption: str) -> Chart:
    """The first trial of each arm in the block whose effect is the middle one.

    Both arms of a block replay the same arrivals, so differences are the arms'.
    """
    block = typical_block(case.trials, case.judgement.effects)
    tracks = _tracks(case, block)
    lines = [Line(track.legend, track.colour) for track in tracks]
    title = "Over time" if block is None else f"Over time, block {block + 1}"
    if len(tracks) > 1:
        title = f"{title}: the same arrivals"
    chart, (latency, flight) = new_chart(title, lines, caption, _FRAME)
    if not tracks:
        empty(latency)
        empty(flight)
        return chart
    for track in tracks:
        _draw_latencies(latency, track)
        times, counts = in_flight(track.trial)
        flight.step(times, counts, where="post", color=track.colour, linewidth=1.5)
    seconds_axis(latency, "y")
    latency.tick_params(labelbottom=False)
    subtitle(latency, "scheduled TTFT of each request, by the time it was due")
    subtitle(flight, "requests in flight")
    flight.set_xlabel("seconds since the start of the trial")
    flight.set_ylim(bottom=0)
    flight.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    flight.set_xlim(left=0)
    return chart


def _tracks(case: Case, block: int | None) -> list[_Track]:
    tracks = []
    for arm in series_of(case):
        trials = [trial for trial in arm.trials if trial.block == block]
        if trials:
            first = min(trials, key=lambda trial: trial.position)
            tracks.append(_Track(arm.name, arm.colour, first))
    return tracks


def _draw_latencies(axes: Axes, track: _Track) -> None:
    points = [(one.scheduled_s, scheduled_ttft_s(one)) for one in track.trial.samples]
    good = [(at_s, ttft_s) for at_s, ttft_s in points if math.isfinite(ttft_s)]
    lost = [at_s for at_s, ttft_s in points if math.isinf(ttft_s)]
    axes.scatter(
        *_columns(good),
        s=16,
        color=track.colour,
        alpha=0.75,
        linewidths=0,
        rasterized=len(good) > _MOST_SHAPES,
    )
    # On the upper edge: they never came, whatever the scale.
    axes.scatter(
        lost,
        [1.0] * len(lost),
        s=26,
        marker="x",
        color=track.colour,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
