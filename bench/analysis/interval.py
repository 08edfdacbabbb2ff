"""The t-interval of a mean over blocks, the one interval that this suite uses.

Requests of a trial are correlated, so a block is one observation; over so few blocks
a bootstrap is far too narrow.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its two-sided confidence interval."""

    mean: float
    low: float
    high: float


def t_interval(values: Sequence[float], alpha: float) -> Interval | None:
    """mean ± t(1 − alpha/2, n − 1)·s/√n; None of fewer than two, or not finite, values."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    # Exact arithmetic: equal values have no spread, and the sign of all can be swapped.
    mean = statistics.mean(values)
    spread = statistics.stdev(values)
    t = float(stdtrit(len(values) - 1, 1 - alpha / 2))
    half = t * spread / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)
