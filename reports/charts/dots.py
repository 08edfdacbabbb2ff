"""Requests as dots: when each was due, and how long it took to its first token."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from bench.analysis.timings import scheduled_ttft_s
from bench.records import Sample

# More points than this become one picture inside the chart, so that it stays small.
_MOST_SHAPES = 1000


def draw_ttfts(axes: Axes, samples: Sequence[Sample], colour: str) -> None:
    """Scheduled TTFT by due time; failed requests as crosses on the upper edge."""
    points = [(one.scheduled_s, scheduled_ttft_s(one)) for one in samples]
    good = [(at_s, ttft_s) for at_s, ttft_s in points if math.isfinite(ttft_s)]
    lost = [at_s for at_s, ttft_s in points if math.isinf(ttft_s)]
    axes.scatter(
        [at_s for at_s, _ in good],
        [ttft_s for _, ttft_s in good],
        s=16,
        color=colour,
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
        color=colour,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )
