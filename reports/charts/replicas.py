"""Who served what: requests per replica and arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bench.analysis.judgement import Case
from reports import wording
from reports.charts.series import series_of
from reports.charts.style import INK, MUTED, Chart, Frame, Line, empty, new_chart

_UNSERVED = "no replica"
_BAR = 0.36


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """None where no replica is known, as in results of other tools."""
    if any(trial.replicas for trial in case.trials):
        yield replicas(case, caption)


def replicas(case: Case, caption: str) -> Chart:
    """Requests that each replica served, over all blocks; those that reached none below."""
    names = _replica_names(case)
    arms = [
        (arm, Counter(one.replica or _UNSERVED for one in arm.samples)) for arm in series_of(case)
    ]
    if any(counts[_UNSERVED] for _, counts in arms):
        names.append(_UNSERVED)
    lines = [
        Line(f"{arm.name}: {wording.count(counts.total(), 'request')}", arm.colour, arm.look.bar)
        for arm, counts in arms
    ]
    values = (f"{name}, {arm.name}: {counts[name]}" for name in names for arm, counts in arms)
    longest = max((len(name) for name in names), default=0)
    height_in = 0.52 * len(names) if arms else 1.0
    frame = Frame(plots=(height_in,), left=0.4 + 0.075 * longest, right=0.5)
    chart, (axes,) = new_chart("Requests per replica", lines, caption, frame, values)
    if not arms:
        empty(axes)
        return chart
    for place, (arm, counts) in enumerate(arms):
        offset = (place - (len(arms) - 1) / 2) * _BAR
        heights = [y + offset for y in range(len(names))]
        served = [counts[name] for name in names]
        drawn = axes.barh(heights, served, height=_BAR - 0.04, **arm.look.of_bars)
        axes.bar_label(drawn, padding=4, size=8, color=MUTED)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names, size=8.5, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="requests")
    axes.set_xlim(left=0)
    return chart


def _replica_names(case: Case) -> list[str]:
    known = dict.fromkeys(one.name for trial in case.trials for one in trial.replicas)
    seen = {sample.replica for trial in case.trials for sample in trial.samples if sample.replica}
    return [*known, *sorted(seen - known.keys())]
