"""A chart of levels over time: a plot for each arm, on shared axes, a line for each series."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from bench.analysis.judgement import Case
from bench.records import Trial
from reports import wording
from reports.charts.series import draw_levels, looks_of, titled, typical_trials
from reports.charts.style import OTHERS, Chart, Frame, new_chart, subtitle

Levels = Mapping[str, Sequence[tuple[float, float | None]]]
"""By name of a series: seconds from the start of the trial, and the value; None is unknown."""


def level_charts(
    case: Case, caption: str, levels_of: Callable[[Trial], Levels], texts: tuple[str, str, str]
) -> Iterator[Chart]:
    """The first trial of each arm in the typical block; none where no value is known.

    `texts` are the title, what the lines of an arm are, and their unit. A line is broken where its
    value is not known.
    """
    title, what, unit = texts
    arms = [(arm, levels_of(arm.first)) for arm in typical_trials(case)]
    known = [value for _, levels in arms for name in levels for value in _values(levels[name])]
    if case.judgement.scenario.search_step is not None or not known:
        return
    looks, lines = looks_of("lines", (name for _, levels in arms for name in levels))
    texts_of = (
        f"{arm.name}, {name}: at most {wording.quantity(max(_values(of), default=None), unit)}"
        for arm, levels in arms
        for name, of in levels.items()
    )
    frame = Frame(plots=(1.0,) * len(arms), gap=0.45, head=0.3)
    heading = titled(title, [arm for arm, _ in arms])
    chart, axes = new_chart(heading, lines, caption, frame, texts_of)
    for (arm, levels), plot in zip(arms, axes, strict=True):
        for name, of in levels.items():
            values = [math.nan if value is None else value for _, value in of]
            draw_levels(plot, [at_s for at_s, _ in of], values, looks.get(name, OTHERS))
        subtitle(plot, f"{arm.name}: {what}")
        plot.set_ylim(0, max(1.1 * max(known), 1.0))
        plot.yaxis.set_major_locator(MaxNLocator(nbins=4))
        plot.yaxis.set_major_formatter(f"{{x:.3g}} {unit}")
    for plot in axes[:-1]:
        plot.tick_params(labelbottom=False)
    axes[-1].set_xlim(0, max(arm.first.elapsed_s for arm, _ in arms))
    axes[-1].set_xlabel("seconds since the start of the trial")
    yield chart


def _values(of: Sequence[tuple[float, float | None]]) -> list[float]:
    return [value for _, value in of if value is not None]
