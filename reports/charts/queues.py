"""The server's side of one block over time: queues in the replicas, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.records import ServerReading, Trial
from reports import palette
from reports.case import Case
from reports.charts.dots import draw_ttfts
from reports.charts.series import Track, typical_tracks
from reports.charts.style import Chart, Frame, Line, empty, new_chart, seconds_axis, subtitle

_TTFT_IN, _QUEUE_IN = 1.35, 0.85


def queues(case: Case, caption: str) -> Chart:
    """For each arm: requests as dots in the colour of their replica, and its queue depth.

    The first trial of each arm in the block whose effect is the middle one. Both arms share
    their axes. A line is broken where metrics could not be read.
    """
    block, tracks = typical_tracks(case)
    colours = _colours(tracks)
    title = "Queues in the replicas"
    if block is not None:
        title = f"{title}, block {block + 1}"
    frame = Frame(plots=(_TTFT_IN, _QUEUE_IN) * max(1, len(tracks)), gap=0.45, head=0.3)
    chart, axes = new_chart(title, _legend(tracks, colours), caption, frame)
    if not tracks:
        for one in axes:
            empty(one)
        return chart
    latencies, depths = axes[::2], axes[1::2]
    for track, latency, depth in zip(tracks, latencies, depths, strict=True):
        _draw(track, colours, latency, depth)
    _share_heights([one for one in latencies if one.get_yscale() == "log"])
    _share_heights(depths)
    for one in depths:
        one.set_ylim(bottom=0.0)
    for one in axes[:-1]:
        one.tick_params(labelbottom=False)
    axes[-1].set_xlim(0, max(track.trial.elapsed_s for track in tracks))
    axes[-1].set_xlabel("seconds since the start of the trial")
    return chart


def has_queues(case: Case) -> bool:
    """Whether any replica was scraped in the block that would be shown."""
    return any(track.trial.server for track in typical_tracks(case)[1])


def _colours(tracks: Sequence[Track]) -> dict[str, str]:
    names = dict.fromkeys(series.replica for track in tracks for series in track.trial.server)
    return dict(zip(names, palette.REPLICAS, strict=False))


def _legend(tracks: Sequence[Track], colours: dict[str, str]) -> list[Line]:
    scraped = {series.replica for track in tracks for series in track.trial.server}
    lines = [Line(f"● {name}", colour) for name, colour in colours.items()]
    if len(scraped) > len(lines):
        lines.append(Line(f"● {len(scraped) - len(lines)} more replicas"))
    return lines


def _draw(track: Track, colours: dict[str, str], latency: Axes, depth: Axes) -> None:
    trial = track.trial
    for name in dict.fromkeys(sample.replica for sample in trial.samples):
        served = [sample for sample in trial.samples if sample.replica == name]
        draw_ttfts(latency, served, colours.get(name or "", palette.MUTED))
    for series in trial.server:
        colour = colours.get(series.replica, palette.MUTED)
        times = [reading.at_s for reading in series.readings]
        levels = [_waiting(reading) for reading in series.readings]
        depth.step(times, levels, where="post", color=colour, linewidth=1.5)
    if any(sample.ok for sample in trial.samples):
        seconds_axis(latency, "y")
    else:
        latency.set_yticks([])
    subtitle(latency, f"{track.name}: scheduled TTFT of each request, by the time it was due")
    subtitle(depth, f"{track.name}: requests waiting in each replica{_unread(trial)}")
    depth.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))


def _waiting(reading: ServerReading) -> float:
    """Not a number where it is not known, at which a line is broken."""
    return math.nan if reading.waiting is None else reading.waiting


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
