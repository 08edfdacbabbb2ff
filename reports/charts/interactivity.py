"""Tokens per second of one user against those of all users together: what one costs the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from bench.analysis.judgement import Case
from bench.analysis.metrics import metric
from bench.records import Trial
from reports import wording
from reports.charts.series import series_of
from reports.charts.style import Chart, Frame, Line, new_chart

Point = tuple[float, float]


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """A dot for each trial; none where tokens are not known.

    Where the load was searched for, a line joins the trials that no other one beats in both
    (the Pareto front); at a single load a large mark shows the arm's medians.
    """
    arms = [(arm, _points(arm.trials)) for arm in series_of(case)]
    arms = [(arm, points) for arm, points in arms if points]
    if not arms:
        return
    searched = case.judgement.scenario.search_step is not None
    mark = "line: trials that none beats in both" if searched else "large: median"
    lines = [Line(f"{arm.name}, each trial; {mark}", arm.colour, arm.look.dot) for arm, _ in arms]
    title = "Tokens per second: of a user, and in total"
    marked = [front(points) if searched else [_middle(points)] for _, points in arms]
    values = (
        f"{arm.name}: {wording.number(total)} in total at {wording.number(own)} of one user"
        for (arm, _), points in zip(arms, marked, strict=True)
        for own, total in points
    )
    frame = Frame(plots=(2.2,), left=0.8)
    chart, (axes,) = new_chart(title, lines, caption, frame, values)
    for (arm, points), of_arm in zip(arms, marked, strict=True):
        colour, marker = arm.colour, arm.look.marker
        axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=4.5, alpha=0.5)
        if searched:
            dashes = arm.look.dashes
            axes.plot(*zip(*of_arm, strict=True), color=colour, linestyle=dashes, linewidth=2)
        else:
            axes.plot(*of_arm[0], marker, color=colour, markersize=9, markeredgecolor="white")
    axes.set(xlabel="of one user: 1 / median TPOT", ylabel="in total")
    yield chart


def _points(trials: Sequence[Trial]) -> list[Point]:
    total, per_token = metric("output_tps"), metric("tpot_p50_s")
    known = [(per_token.over([trial]), total.over([trial])) for trial in trials]
    # A trial of which half failed has no speed: its TPOT is infinite.
    return [(1 / tpot_s, tps) for tpot_s, tps in known if tpot_s and tps]


def _middle(points: Sequence[Point]) -> Point:
    return median(x for x, _ in points), median(y for _, y in points)


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one exceeds in both, in the order of the first number."""
    kept: list[Point] = []
    for point in sorted(points, reverse=True):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept[::-1]
