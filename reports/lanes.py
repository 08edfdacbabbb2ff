"""The first chart of the page, as places in percent: it is drawn as wide as the page is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.analysis.judgement import Judgement, Verdict
from bench.analysis.verdict import ALIKE
from reports import wording
from reports.charts.forest import ratio_axis
from reports.run import short_title

Place = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Lane:
    """The primary metric of one case. Places are percents of the width, None for what is not.

    `dots` has the place of each block's ratio, and its name.
    """

    title: str
    metric: str
    ratio: str
    verdict: Verdict
    text: str
    middle: float | None
    low: float | None
    high: float | None
    dots: tuple[tuple[float, str], ...]
    lower_is_better: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Lanes:
    """All lanes over one axis: ticks with their labels, the place of ratio 1, and the band."""

    lanes: tuple[Lane, ...]
    ticks: tuple[tuple[float, str], ...]
    one: float
    band: tuple[float, float]


def lanes_of(judgements: Sequence[Judgement]) -> Lanes | None:
    """A lane for each comparison; None without any."""
    compared = [one for one in judgements if one.primary is not None]
    if not compared:
        return None
    # An invalid interval can span decades, beside which no other one is seen: it is cut off.
    valid = [one for one in compared if not one.invalid_reasons]
    ratios = [ratio for one in valid or compared for ratio in _ratios(one)]
    low, high, ticks = ratio_axis(ratios)

    def place(ratio: float) -> float:
        inside = min(max(ratio, low), high)
        return round(100 * math.log(inside / low) / math.log(high / low), 2)

    left, right = place(math.exp(-ALIKE)), place(math.exp(ALIKE))
    return Lanes(
        lanes=tuple(_lane(one, place) for one in compared),
        ticks=tuple((place(tick), f"{tick:g}") for tick in ticks),
        one=place(1.0),
        band=(left, round(right - left, 2)),
    )


def _ratios(judgement: Judgement) -> tuple[float | None, ...]:
    primary = judgement.primary
    assert primary is not None
    return (primary.ratio, primary.low, primary.high, *judgement.effects)


def _lane(judgement: Judgement, place: Place) -> Lane:
    primary = judgement.primary
    assert primary is not None
    dots = tuple(
        (place(ratio), f"{wording.block(index, primary.over)}: {wording.factor(ratio)}")
        for index, ratio in judgement.ratios.items()
        if ratio is not None
    )
    ratio = wording.ratio(primary)
    reasons = (*judgement.invalid_reasons, *primary.reasons)
    shown = [None if one is None else place(one) for one in _ratios(judgement)[:3]]
    return Lane(
        title=short_title(judgement),
        metric=wording.metric(primary.metric),
        ratio=ratio,
        verdict=primary.verdict,
        text=f"{short_title(judgement)}: ratio {ratio}, {primary.verdict}",
        middle=shown[0],
        low=shown[1],
        high=shown[2],
        dots=dots,
        lower_is_better=primary.direction == "lower",
        reason=reasons[0] if reasons and primary.verdict is Verdict.INVALID else "",
    )
