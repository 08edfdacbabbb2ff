"""Sums and the like of values of which some may be unknown: then so is the result."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

Values = Iterable[float | None]


def total(values: Values) -> float | None:
    return _of_all(math.fsum, values)


def mean(values: Values) -> float | None:
    return _of_all(statistics.fmean, values)


def largest(values: Values) -> float | None:
    return _of_all(max, values)


def _of_all(function: Callable[[Sequence[float]], float], values: Values) -> float | None:
    """The function of the values; None where one is unknown, or there are none."""
    seen = list(values)
    known = [value for value in seen if value is not None]
    return function(known) if known and len(known) == len(seen) else None
