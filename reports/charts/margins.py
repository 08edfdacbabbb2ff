"""How far from its limit each objective is, of each model and tenant and both arms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.analysis.judgement import Case
from bench.analysis.timings import scheduled_e2e_s, scheduled_ttft_s, tpot_s
from bench.records import Sample, slo_key
from reports import wording
from reports.charts.series import Series, series_of
from reports.charts.style import INK, Chart, Frame, Line, name_point, new_chart

_TIMES: Mapping[str, Callable[[Sample], float | None]] = {
    "ttft_s": scheduled_ttft_s,
    "tpot_s": tpot_s,
    "e2e_s": scheduled_e2e_s,
}


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """A row for each objective, a dot for each arm: the time that the wanted share kept / limit.

    None where no objective is set, or where the load was searched for, which fixes the margin.
    """
    facts = case.judgement.scenario
    wanted = [
        (key, slo, name, limit_s)
        for key, slo in facts.slos.items()
        for name in _TIMES
        if (limit_s := getattr(slo, name)) is not None
    ]
    arms = series_of(case)
    served = {slo_key(one.model, one.tenant) for arm in arms for one in arm.samples}
    wanted = [one for one in wanted if one[0] in served]
    if not wanted or not arms or facts.search_step is not None:
        return
    labels = [f"{key} {name.removesuffix('_s').upper()}" for key, _, name, _ in wanted]
    lines = [Line(arm.name, arm.colour, arm.look.dot) for arm in arms]
    lines.append(Line("left of the line: the wanted share of requests is within the limit"))
    frame = Frame(plots=(0.54 * len(labels),), left=0.35 + 0.075 * max(map(len, labels)), right=0.4)
    kept = [
        [_kept_s(arm, key, name, slo.attainment) for key, slo, name, _ in wanted] for arm in arms
    ]
    values = (
        f"{arm.name}, {label}: {wording.quantity(time_s, 's')} of {wording.duration(one[3])}"
        for arm, times in zip(arms, kept, strict=True)
        for label, one, time_s in zip(labels, wanted, times, strict=True)
    )
    title = "Objectives: time taken / limit"
    chart, (axes,) = new_chart(title, lines, caption, frame, values)
    axes.set_xscale("log")
    axes.axvline(1, color=INK, linewidth=1)
    ratios = [1.0]
    for place, (arm, times) in enumerate(zip(arms, kept, strict=True)):
        colour, marker = arm.colour, arm.look.marker
        for row, (time_s, (_, _, _, limit_s)) in enumerate(zip(times, wanted, strict=True)):
            y = row + 0.36 * (place - (len(arms) - 1) / 2)
            if time_s is None:
                continue
            if math.isinf(time_s):
                # Too many failed: beyond any limit.
                edge = axes.get_yaxis_transform()
                (lost,) = axes.plot(1, y, marker, color=colour, transform=edge, clip_on=False)
                lost.set_fillstyle("none")
                continue
            ratios.append(time_s / limit_s)
            axes.plot(ratios[-1], y, marker, color=colour, markersize=6)
            name_point(axes, ratios[-1], y, wording.duration(time_s))
    axes.set_xlim(min(ratios) / 1.5, max(ratios) * 2.2)
    axes.xaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.target(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(labels)), labels, size=8.5, color=INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="of the limit")
    yield chart


def _kept_s(arm: Series, key: str, name: str, share: float) -> float | None:
    samples = (one for one in arm.samples if slo_key(one.model, one.tenant) == key)
    return kept_s(filter(None, map(_TIMES[name], samples)), share)


def kept_s(times: Iterable[float], share: float) -> float | None:
    """The time within which this share of requests was done; None without any."""
    ordered = sorted(times)
    # Rounded first: 0.07 * 100 is a little more than 7.
    return ordered[max(0, math.ceil(round(share * len(ordered), 6)) - 1)] if ordered else None
