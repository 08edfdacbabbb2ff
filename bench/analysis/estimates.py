"""Percentiles, ratios, and t-intervals: of a mean over blocks, of a difference between runs.

Requests of a trial are correlated, so a block is one observation. The interval is no bootstrap,
which would be far too narrow for so few blocks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

# So many values lie beyond a percentile, so that no single request makes it. How much it still
# varies shows in the interval over blocks.
TAIL_VALUES = 3


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The percentile by linear interpolation, +inf beside +inf; None if there are no values."""
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
    """The number of values that judging this percentile needs: p50 6, p95 60, p99 300."""
    beyond = min(percent, 100 - percent)
    return math.ceil(100 * TAIL_VALUES / beyond)


def median(values: Sequence[float | None]) -> float | None:
    """The median of the values that are known; None when none is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def log_ratio(treatment: float | None, control: float | None) -> float | None:
    """ln(treatment / control); None unless both are finite and above zero."""
    if treatment is None or control is None:
        return None
    if not (0 < treatment < math.inf and 0 < control < math.inf):
        return None
    return math.log(treatment) - math.log(control)


def ratio_of(effect: float) -> float:
    """treatment / control of an effect; +inf if that is too large for a float."""
    try:
        return math.exp(effect)
    except OverflowError:
        return math.inf


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its two-sided confidence interval."""

    mean: float
    low: float
    high: float


def t_interval(values: Sequence[float], alpha: float) -> Interval | None:
    """mean ± t(1 − alpha/2, n − 1)·s/√n; None if a value is not finite or n < 2."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    # Exact arithmetic: equal values have no spread, and the sign of all can be swapped.
    mean = statistics.mean(values)
    spread = statistics.stdev(values)
    t = float(stdtrit(len(values) - 1, 1 - alpha / 2))
    half = t * spread / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def welch_interval(
    control: Sequence[float], treatment: Sequence[float], alpha: float
) -> Interval | None:
    """Mean of `treatment` − mean of `control`, of independent values with unlike spreads.

    The half width is t(1 − alpha/2, f)·√(s₁²/n₁ + s₂²/n₂), with f by Welch and Satterthwaite, but
    at most twice the freedom of the smaller side: beside two runs, many others make f too large.
    None if a value is not finite, or a side has fewer than two.
    """
    sides = (control, treatment)
    if min(map(len, sides)) < 2 or not all(math.isfinite(one) for side in sides for one in side):
        return None
    mean = float(statistics.mean(treatment)) - float(statistics.mean(control))
    squares = [statistics.variance(side) / len(side) for side in sides]
    error = math.sqrt(sum(squares))
    if error == 0:
        return Interval(mean, mean, mean)
    parts = [
        (one / sum(squares)) ** 2 / (len(side) - 1)
        for one, side in zip(squares, sides, strict=True)
    ]
    freedom = min(1 / sum(parts), 2 * (min(map(len, sides)) - 1))
    half = float(stdtrit(freedom, 1 - alpha / 2)) * error
    return Interval(mean, mean - half, mean + half)
