"""Percentiles of values of which some may be infinite."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

# With three values beyond it, no single request makes a percentile. How much it still
# varies is left to the interval over blocks, which measures just that.
TAIL_VALUES = 3


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The percentile by linear interpolation; None of no values.

    Between a finite value and +inf it is +inf: the higher value did not happen.
    """
    if not values:
        return None
    ordered = sorted(values)
    index, hundredths = divmod(percent * (len(ordered) - 1), 100)
    low = ordered[index]
    if hundredths == 0:
        return low
    high = ordered[index + 1]
    if math.isinf(high):
        return high
    return min(high, low + hundredths / 100 * (high - low))


def minimum_n(percent: int) -> int:
    """The fewest values of which this percentile is worth judging: p50 6, p95 60, p99 300."""
    beyond = min(percent, 100 - percent)
    return math.ceil(100 * TAIL_VALUES / beyond)


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
