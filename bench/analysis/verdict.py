"""From the effects of blocks to a verdict, and the smallest effect that the rule can find."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtrit

from bench.analysis.estimates import Interval, ratio_of, t_interval, welch_interval
from bench.analysis.judgement import Verdict
from bench.records import Direction

# The version of this rule, which is stored with its verdicts: measured error rates belong to
# one version.
RULE = 2
# The numbers of blocks at which a verdict is sought. Looking more often would find differences
# where there are none.
LOOKS = (4, 6, 8, 12, 16, 24)
# Two-sided, at each look; over all looks an arm against itself is better in at most 2.5 % of
# cases, and worse in at most 2.5 %.
ALPHA = 0.01

# As logarithms, so that swapping the arms mirrors the verdict exactly.
MATERIAL = math.log(1.05)
ALIKE = math.log(1.10)

POWER = 0.9
ONE_RUN = (
    "a side has a single run, and nothing tells how much runs differ: no interval and no verdict;"
    " give two runs a side or more"
)
# More blocks than this are never advised.
_MOST_BLOCKS = 10_000


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with treatment / control and its interval; `reasons` where they are None."""

    verdict: Verdict
    ratio: float | None
    low: float | None
    high: float | None
    reasons: tuple[str, ...] = ()


def last_look(blocks: int) -> int:
    """The largest planned look that so many blocks allow; 0 before the first."""
    return max((look for look in LOOKS if look <= blocks), default=0)


def verdicts_at(alpha: float) -> int:
    """How many verdicts share ALPHA, if each has the error rate `alpha` (Bonferroni)."""
    return max(1, round(ALPHA / alpha)) if alpha > 0 else 1


def decide(effects: Sequence[float | None], direction: Direction, alpha: float) -> Decision:
    """Judge ln(treatment / control) of the blocks; `alpha` is the two-sided error rate."""
    blocks = len(effects)
    known = [effect for effect in effects if effect is not None and math.isfinite(effect)]
    if len(known) < blocks:
        lacking = f"{blocks - len(known)} of {blocks} blocks have no finite ratio"
        return Decision(Verdict.INCONCLUSIVE, None, None, None, (lacking,))
    planned = ", ".join(map(str, LOOKS))
    unplanned = f"{blocks} complete blocks; a verdict is given at {planned}"
    seen = t_interval(known, alpha)
    if seen is None:
        return Decision(Verdict.INCONCLUSIVE, None, None, None, (unplanned,))
    if blocks not in LOOKS:
        return replace(
            _decision(seen, direction), verdict=Verdict.INCONCLUSIVE, reasons=(unplanned,)
        )
    return _decision(seen, direction)


def decide_runs(
    control: Sequence[float],
    treatment: Sequence[float],
    direction: Direction,
    alpha: float,
    *,
    paired: bool,
) -> Decision:
    """Judge values of single runs, all looked at once; `alpha` is the two-sided error rate.

    Each run is one observation, whatever its number of requests. In `paired` ones the values at
    the same place were measured together.
    """
    values = (*control, *treatment)
    if not values or not all(0 < one < math.inf for one in values):
        lacking = "a run has no value above 0 that is finite, so there is no ratio"
        return Decision(Verdict.INCONCLUSIVE, None, None, None, (lacking,))
    control_logs, treatment_logs = (
        [math.log(one) for one in side] for side in (control, treatment)
    )
    if paired:
        effects = [b - a for a, b in zip(control_logs, treatment_logs, strict=True)]
        seen = t_interval(effects, alpha)
    else:
        seen = welch_interval(control_logs, treatment_logs, alpha)
    if seen is None:
        ratio = ratio_of(statistics.fmean(treatment_logs) - statistics.fmean(control_logs))
        return Decision(Verdict.INCONCLUSIVE, ratio, None, None, (ONE_RUN,))
    return _decision(seen, direction)


def _decision(seen: Interval, direction: Direction) -> Decision:
    ratio, low, high = map(ratio_of, (seen.mean, seen.low, seen.high))
    return Decision(_judge(_costs(seen, direction)), ratio, low, high)


def _judge(seen: Interval) -> Verdict:
    if seen.high < 0 and seen.mean <= -MATERIAL:
        return Verdict.BETTER
    if seen.low > 0 and seen.mean >= MATERIAL:
        return Verdict.WORSE
    if seen.low >= -ALIKE and seen.high <= ALIKE:
        return Verdict.EQUIVALENT
    return Verdict.INCONCLUSIVE


def _costs(interval: Interval, direction: Direction) -> Interval:
    """The interval, with its sign changed where higher values are better."""
    if direction == "lower":
        return interval
    return Interval(-interval.mean, -interval.high, -interval.low)


def spread_of(ratios: Sequence[float]) -> float | None:
    """Standard deviation of ln(ratio) over blocks; None of fewer than two."""
    logs = [math.log(ratio) for ratio in ratios]
    return statistics.stdev(logs) if len(logs) > 1 else None


def pooled_spread(spreads: Sequence[tuple[float, int]]) -> float | None:
    """One spread of several runs, each with its number of blocks; None of none."""
    freedom = sum(blocks - 1 for _, blocks in spreads)
    if freedom < 1:
        return None
    squares = sum((blocks - 1) * spread**2 for spread, blocks in spreads)
    return math.sqrt(squares / freedom)


def smallest_factor(spread: float, blocks: int, alpha: float) -> float:
    """The smallest factor between the arms that `blocks` blocks find with a power of 90 %.

    `spread` is the standard deviation of a block's ln(ratio). The small gain of earlier looks is
    left out.
    """
    quantiles = stdtrit(blocks - 1, [1 - alpha / 2, POWER])
    return ratio_of(max(MATERIAL, float(sum(quantiles)) * spread / math.sqrt(blocks)))


def blocks_to_decide(ratios: Sequence[float], alpha: float) -> int | None:
    """How many blocks would decide if all had the mean and spread of `ratios`; None if none would.

    `ratios` are treatment / control of the blocks so far.
    """
    spread = spread_of(ratios)
    if spread is None:
        return None
    return _to_decide(statistics.fmean(map(math.log, ratios)), spread, alpha, LOOKS[0])


def runs_to_decide(
    control: Sequence[float], treatment: Sequence[float], alpha: float, *, paired: bool
) -> int | None:
    """How many runs a side would decide if all were like these; None if none would."""
    sides = [[math.log(one) for one in side] for side in (control, treatment)]
    size = statistics.fmean(sides[1]) - statistics.fmean(sides[0])
    if paired:
        spread = statistics.stdev(b - a for a, b in zip(*sides, strict=True))
        return _to_decide(size, spread, alpha, 2)
    spread = math.sqrt(sum(map(statistics.variance, sides)))
    return _to_decide(size, spread, alpha, 2, sides=2)


def _to_decide(
    size: float, spread: float, alpha: float, first: int, *, sides: int = 1
) -> int | None:
    for count in range(first, _MOST_BLOCKS):
        half = float(stdtrit(sides * (count - 1), 1 - alpha / 2)) * spread / math.sqrt(count)
        if (abs(size) >= MATERIAL and half < abs(size)) or abs(size) + half <= ALIKE:
            return count
    return None
