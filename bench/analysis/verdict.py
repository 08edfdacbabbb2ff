"""From the effects of blocks to a verdict.

Error rates of this rule were checked by simulation; tests/bench hold them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.blocks import ratio_of
from bench.analysis.estimates import Interval, t_interval
from bench.records import Direction, Verdict

# The version of this rule, which is stored with what it decided: error rates that were
# measured belong to one version.
RULE = 2
# The numbers of blocks at which a verdict is sought. Looking more often, or at other
# times, finds a difference where none is.
LOOKS = (4, 6, 8, 12, 16, 24)
# Two-sided, at each look; over all looks an arm against itself is called better, or worse,
# in at most 2.5 % of cases each.
ALPHA = 0.01

# As logarithms, so that swapping the arms mirrors the verdict exactly.
MATERIAL = math.log(1.05)
ALIKE = math.log(1.10)


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with its evidence: treatment / control and its interval [low, high].

    They are None where the effects allowed none; `reasons` then says why.
    """

    verdict: Verdict
    ratio: float | None
    low: float | None
    high: float | None
    reasons: tuple[str, ...] = ()


def last_look(blocks: int) -> int:
    """The largest planned look that so many blocks allow; 0 before the first."""
    return max((look for look in LOOKS if look <= blocks), default=0)


def decide(effects: Sequence[float | None], direction: Direction, alpha: float) -> Decision:
    """Judge ln(treatment / control) of each block; `alpha` is the interval's two-sided error rate.

    However many comparisons a run has, each is judged alike: what fails is measured once more.
    """
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
    ratio, low, high = map(ratio_of, (seen.mean, seen.low, seen.high))
    if blocks not in LOOKS:
        return Decision(Verdict.INCONCLUSIVE, ratio, low, high, (unplanned,))
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
    """The interval with its sign such that less is better."""
    if direction == "lower":
        return interval
    return Interval(-interval.mean, -interval.high, -interval.low)
