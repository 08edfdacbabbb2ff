"""What the comparison page shows, in words and positions, before any HTML."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.analysis.gates import gating
from bench.analysis.judgement import Judgement
from bench.analysis.verdict import ALIKE
from bench.records import Expectation, Role, SloOutcome, Verdict
from reports import wording
from reports.case import Arms, arms_of
from reports.tables import Row, rows_of

_BAR_WIDTH = 150.0
# A ratio of 4, or 1/4, lies on the edge of the bar.
_BAR_EDGE = math.log(4)


@dataclass(frozen=True, slots=True)
class Bar:
    """A ratio's interval as positions in a picture 150 wide, in which 75 is 1."""

    x: float
    width: float
    middle: float
    band_x: float
    band_width: float


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table with its values under their headings."""

    row: Row
    values: tuple[tuple[str, str], ...]
    bar: Bar | None


@dataclass(frozen=True, slots=True)
class Tally:
    """How often an outcome occurred, for the headline."""

    outcome: Verdict | SloOutcome
    count: int
    words: str


@dataclass(frozen=True, slots=True)
class Objective:
    """One arm's SLO in one scenario."""

    title: str
    objectives: str
    target: str
    arm: str
    attained: str
    outcome: SloOutcome


def lines_of(judgement: Judgement, arms: Arms) -> tuple[Line, ...]:
    return tuple(
        Line(row, tuple(_by_heading(row, arms)), bar_of(row.interval)) for row in rows_of(judgement)
    )


def _by_heading(row: Row, arms: Arms) -> Iterator[tuple[str, str]]:
    for heading, value in zip(arms.headings, (row.control, row.treatment), strict=True):
        if heading is not None:
            yield heading, value


def bar_of(interval: tuple[float, float, float] | None) -> Bar | None:
    """Where an interval lies; its ends stay inside the picture."""
    if interval is None:
        return None
    low, middle, high = (_place(ratio) for ratio in interval)
    band = _place(math.exp(ALIKE)) - _BAR_WIDTH / 2
    # An interval too short to see still shows where it is.
    return Bar(low, max(high - low, 1.0), middle, _BAR_WIDTH / 2 - band, 2 * band)


def _place(ratio: float) -> float:
    share = math.log(ratio) / _BAR_EDGE if ratio > 0 else -1.0
    return round((1 + min(1.0, max(-1.0, share))) / 2 * _BAR_WIDTH, 1)


def tallies(judgements: Sequence[Judgement]) -> tuple[Tally, ...]:
    """Verdicts on primary metrics, then SLO outcomes of the arm that is judged."""
    counting = gating(judgements)
    verdicts = Counter(one.primary.verdict for one in counting if one.primary)
    judged = (one.slos_of("treatment") or one.slos_of("control") for one in counting)
    outcomes = Counter(one.outcome for slos in judged for one in slos)
    del outcomes[SloOutcome.UNSET]
    return (
        *(Tally(one, verdicts[one], one.value) for one in Verdict if verdicts[one]),
        *(Tally(one, outcomes[one], f"SLO {one.value}") for one in SloOutcome if outcomes[one]),
    )


def objectives_of(judgements: Sequence[Judgement]) -> tuple[Objective, ...]:
    headings = arms_of(judgements).headings
    roles: tuple[Role, Role] = ("control", "treatment")
    return tuple(
        Objective(
            title=" · ".join(filter(None, (judgement.scenario.name, result.model, result.tenant))),
            objectives=wording.objectives(result.slo),
            target=wording.target(result.target),
            arm=heading,
            attained=wording.attained(result),
            outcome=result.outcome,
        )
        for judgement in judgements
        for role, heading in zip(roles, headings, strict=True)
        if heading is not None
        for result in judgement.slos_of(role)
        if result.outcome is not SloOutcome.UNSET
    )


def expectation(judgement: Judgement) -> str:
    """What the scenario asks for, as a sentence; empty where nothing is compared."""
    if judgement.primary is None or arms_of([judgement]).same:
        return ""
    wanted = "better" if judgement.scenario.expect is Expectation.BETTER else "not worse"
    return f"Expected: {judgement.treatment} {wanted} than {judgement.control}."


def big_numbers(judgement: Judgement) -> tuple[tuple[str, str, str], ...]:
    """The primary metric for a heading: name, value, and what stands small beside it."""
    primary = judgement.primary
    if primary is None:
        return ()
    control, treatment = arms_of([judgement]).headings
    name = wording.metric(primary.metric)
    middle, _, interval = wording.ratio(primary).partition(" [")
    bounds = {
        one.role: wording.bounds(one.low, one.high).strip()
        for one in judgement.summaries
        if one.metric == primary.metric
    }
    of_control, of_treatment = bounds.get("control", ""), bounds.get("treatment", "")
    control_value = wording.quantity(primary.control_value, primary.unit)
    treatment_value = wording.quantity(primary.treatment_value, primary.unit)
    return (
        (f"{name}, {control}", control_value, of_control),
        (f"{name}, {treatment}", treatment_value, of_treatment),
        (f"ratio, {primary.direction} is better", middle, f"[{interval}" if interval else ""),
        ("blocks", str(primary.blocks), ""),
    )
