"""From blocks to the records that are shown and stored: comparisons and SLO results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.analysis.blocks import Block, BlockEffect
from bench.analysis.estimates import median, t_interval
from bench.analysis.judgement import Comparison, SloOutcome, SloResult, Verdict
from bench.analysis.metrics import Metric
from bench.analysis.timings import has_objective
from bench.analysis.validity import arms, failed_share, too_few, unlike_failures
from bench.analysis.verdict import ALIKE, decide
from bench.records import Role, ScenarioFacts, slo_key


@dataclass(frozen=True, slots=True)
class Evidence:
    """The blocks of one scenario that count, and the reasons why they may not be judged.

    With `invalid` reasons the numbers are given, and every verdict is INVALID.
    """

    facts: ScenarioFacts
    models: tuple[str, ...]
    arms: Mapping[Role, str]
    blocks: tuple[Block, ...]
    invalid: tuple[str, ...]
    notes: tuple[str, ...]

    def part(self, *, model: str = "", tenant: str = "") -> Evidence:
        """The same with only the requests to `model`, or of `tenant`, or both; "" takes all."""
        blocks = tuple(block.part(model=model, tenant=tenant) for block in self.blocks)
        return replace(self, models=(model,) if model else self.models, blocks=blocks)

    def compare(self, metric: Metric, effects: Sequence[BlockEffect]) -> Comparison:
        """Compare the arms in one metric; `effects` are those of the blocks."""
        facts, blocks = self.facts, self.blocks
        primary = metric.name == facts.primary
        decision = decide([one.effect for one in effects], metric.direction, facts.alpha)
        verdict, unsure = decision.verdict, too_few(metric, blocks)
        if unsure:
            verdict = Verdict.INCONCLUSIVE
        if self.invalid:
            verdict = Verdict.INVALID
        failed = {trials[0].role: failed_share(trials) for trials in arms(blocks)}
        # `invalid` has the primary metric's `unsure`, too.
        found = (*self.invalid, *unsure, *decision.reasons, *_without_ratio(effects))
        return Comparison(
            scenario=facts.name,
            models=self.models,
            metric=metric.name,
            unit=metric.unit,
            direction=metric.direction,
            primary=primary,
            control=self.arms["control"],
            treatment=self.arms["treatment"],
            control_value=median([one.control for one in effects]),
            treatment_value=median([one.treatment for one in effects]),
            ratio=decision.ratio,
            low=decision.low,
            high=decision.high,
            blocks=len(effects),
            alpha=facts.alpha,
            verdict=verdict,
            reasons=(*dict.fromkeys(found), *(unlike_failures(blocks) if primary else ())),
            control_failed=failed.get("control"),
            treatment_failed=failed.get("treatment"),
        )


def held_back(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """A line where the arm with the better primary metric has less output than is alike.

    A balancer that holds requests back makes those quick that it lets through.
    """
    primary = next((one for one in comparisons if one.primary), None)
    # The first is of all requests; of a primary metric parts follow.
    output = next((one for one in comparisons if one.metric == "output_tps"), None)
    if primary is None or output is None or not (output.low and output.ratio and output.high):
        return
    ratio, low, high = output.ratio, output.low, output.high
    quick, other = output.treatment, output.control
    if primary.verdict is Verdict.WORSE:
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
        quick, other = other, quick
    elif primary.verdict is not Verdict.BETTER:
        return
    if high < math.exp(-ALIKE):
        yield (
            f"{quick} has only {ratio:.2f} [{low:.2f}, {high:.2f}] of the output of {other}: if it"
            f" holds requests back, its {primary.metric} is that of fewer at once"
        )


def _without_ratio(effects: Sequence[BlockEffect]) -> tuple[str, ...]:
    """A line with both values of the first block that has no ratio."""
    for one in effects:
        if one.effect is None:
            control, treatment = _shown(one.control), _shown(one.treatment)
            return (f"block {one.block}: control {control}, treatment {treatment}",)
    return ()


def _shown(value: float | None) -> str:
    if value is None:
        return "not measured"
    return "unbounded, for requests failed" if math.isinf(value) else f"{value:g}"


def slo_result(
    facts: ScenarioFacts,
    model: str,
    role: Role,
    arm: str,
    shares: Sequence[float],
    tenant: str = "",
) -> SloResult:
    """Judge the attainment of an arm: `shares` has met / all attempted of each block.

    A request that fails misses its objectives. MISSED and MET need the whole interval on their
    side of the target. A single block has no interval: it is UNDECIDED, or MISSED where no
    request met the objectives.
    """
    slo = facts.slos[slo_key(model, tenant)]
    interval = t_interval(shares, facts.alpha)
    # A share lies within [0, 1], and so does its interval.
    low = max(0.0, interval.low) if interval else None
    high = min(1.0, interval.high) if interval else None
    mean = interval.mean if interval else next(iter(shares), None)
    outcome = _outcome(low, mean, high, slo.attainment)
    return SloResult(
        scenario=facts.name,
        model=model,
        role=role,
        arm=arm,
        target=slo.attainment,
        attainment=mean,
        low=low,
        high=high,
        outcome=outcome if has_objective(slo) else SloOutcome.UNSET,
        slo=slo,
        tenant=tenant,
    )


def _outcome(
    low: float | None, mean: float | None, high: float | None, target: float
) -> SloOutcome:
    if mean == 0.0 or (high is not None and high < target):
        return SloOutcome.MISSED
    if low is not None and low >= target:
        return SloOutcome.MET
    return SloOutcome.UNDECIDED
