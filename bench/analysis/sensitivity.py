"""What a comparison can find: before it is measured, and what it lacked when it ends undecided."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

from bench.analysis.blocks import ratio_of
from bench.analysis.verdict import ALIKE, LOOKS, MATERIAL

POWER = 0.9
# Beyond so many blocks the answer is: not with this load on this machine.
_MOST_BLOCKS = 10_000


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

    `spread` is the standard deviation of a block's ln(ratio). Looks before the last one add a
    little to it, which is left out.
    """
    quantiles = stdtrit(blocks - 1, [1 - alpha / 2, POWER])
    return ratio_of(max(MATERIAL, float(sum(quantiles)) * spread / math.sqrt(blocks)))


def blocks_to_decide(ratios: Sequence[float], alpha: float) -> int | None:
    """How many blocks like these would decide if they went on alike; None if none would.

    `ratios` are those of the blocks so far, treatment / control.
    """
    spread = spread_of(ratios)
    if spread is None:
        return None
    size = abs(statistics.fmean(map(math.log, ratios)))
    for blocks in range(LOOKS[0], _MOST_BLOCKS):
        half = float(stdtrit(blocks - 1, 1 - alpha / 2)) * spread / math.sqrt(blocks)
        if (size >= MATERIAL and half < size) or size + half <= ALIKE:
            return blocks
    return None
