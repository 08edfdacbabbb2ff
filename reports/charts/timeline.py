"""One block over time: every request's first token, and how many are in flight."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator

from reports import wording
from reports.case import Case
from reports.charts.dots import draw_ttfts
from reports.charts.series import Track, in_flight, typical_tracks
from reports.charts.style import Chart, Frame, Line, empty, new_chart, seconds_axis, subtitle

_FRAME = Frame(plots=(1.75, 1.1), head=0.3)


def timeline(case: Case, caption: str) -> Chart:
    """The first trial of each arm in the block whose effect is the middle one.

    Both arms of a block replay the same arrivals, so differences are the arms'.
    """
    block, tracks = typical_tracks(case)
    lines = [Line(_legend(track), track.colour) for track in tracks]
    title = "Over time" if block is None else f"Over time, block {block + 1}"
    if len(tracks) > 1:
        title = f"{title}: the same arrivals"
    chart, (latency, flight) = new_chart(title, lines, caption, _FRAME)
    if not tracks:
        empty(latency)
        empty(flight)
        return chart
    for track in tracks:
        draw_ttfts(latency, track.trial.samples, track.colour)
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


def _legend(track: Track) -> str:
    samples = track.trial.samples
    failed = sum(not sample.ok for sample in samples)
    failures = f", {failed} failed (× where they were due)" if failed else ""
    return f"● {track.name}: {wording.count(len(samples), 'request')}{failures}"
