"""Whether an arm attained its objectives, judged over blocks.

A request that fails misses its objectives; noise that spans the target decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.estimates import t_interval
from bench.analysis.timings import has_objective
from bench.records import Role, ScenarioFacts, SloOutcome, SloResult, slo_key


def slo_result(
    facts: ScenarioFacts,
    model: str,
    role: Role,
    arm: str,
    shares: Sequence[float],
    tenant: str = "",
) -> SloResult:
    """Judge the attainment of an arm: `shares` is met / all attempted, one a block.

    MISSED and MET need the whole interval on their side of the target. A single block
    has no interval and decides nothing, except that no request met is always MISSED.
    """
    slo = facts.slos[slo_key(model, tenant)]
    low, mean, high = _attained(shares, facts.alpha)
    return SloResult(
        scenario=facts.name,
        model=model,
        role=role,
        arm=arm,
        target=slo.attainment,
        attainment=mean,
        low=low,
        high=high,
        outcome=_outcome(low, mean, high, slo.attainment)
        if has_objective(slo)
        else SloOutcome.UNSET,
        slo=slo,
        tenant=tenant,
    )


def _attained(
    shares: Sequence[float], alpha: float
) -> tuple[float | None, float | None, float | None]:
    """Low, mean and high; a share lies within [0, 1] and so does its interval."""
    interval = t_interval(shares, alpha)
    if interval is not None:
        return max(0.0, interval.low), interval.mean, min(1.0, interval.high)
    return None, shares[0] if shares else None, None


def _outcome(
    low: float | None, mean: float | None, high: float | None, target: float
) -> SloOutcome:
    if mean == 0.0 or (high is not None and high < target):
        return SloOutcome.MISSED
    if low is not None and low >= target:
        return SloOutcome.MET
    return SloOutcome.UNDECIDED
