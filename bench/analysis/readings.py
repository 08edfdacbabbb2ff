"""Means, maxima and increases of what a replica's /metrics said during a part of a trial.

A gauge keeps its value until it is read again; after a reading that failed it is unknown until
the next one. Where nothing is known the answer is None: what is unknown is not 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from bench.records import ServerReading

Field = Callable[[ServerReading], float | None]


def held(
    readings: Sequence[ServerReading], field: Field, start_s: float, end_s: float
) -> Iterator[tuple[float, float]]:
    """The values of a gauge within [start_s, end_s], and for how many seconds each held."""
    ends_s = itertools.chain((one.at_s for one in readings[1:]), (math.inf,))
    for reading, until_s in zip(readings, ends_s, strict=False):
        value = field(reading)
        lasted_s = min(until_s, end_s) - max(reading.at_s, start_s)
        if value is not None and lasted_s > 0:
            yield value, lasted_s


def mean_level(
    readings: Sequence[ServerReading], field: Field, start_s: float, end_s: float
) -> float | None:
    """The mean of a gauge over time, over the time of which it is known."""
    values = list(held(readings, field, start_s, end_s))
    known_s = math.fsum(lasted_s for _, lasted_s in values)
    return math.fsum(value * lasted_s for value, lasted_s in values) / known_s if values else None


def highest(
    readings: Sequence[ServerReading], field: Field, start_s: float, end_s: float
) -> float | None:
    """The highest value of a gauge that was read or still held in [start_s, end_s]."""
    return max((value for value, _ in held(readings, field, start_s, end_s)), default=None)


def increase(
    readings: Sequence[ServerReading], field: Field, start_s: float, end_s: float
) -> float | None:
    """By how much a counter rose between the last reading before and the first one after.

    None unless there are both: what happened outside the readings is not known. A counter
    that fell has begun anew at 0, as its replica has.
    """
    known = [(one.at_s, value) for one in readings if (value := field(one)) is not None]
    before = [value for at_s, value in known if at_s <= start_s]
    after = [value for at_s, value in known if at_s >= end_s]
    if not before or not after:
        return None
    inside = [value for at_s, value in known if start_s < at_s < end_s]
    steps = itertools.pairwise([before[-1], *inside, after[0]])
    return math.fsum(new - old if new >= old else new for old, new in steps)


def of_all(
    function: Callable[[Sequence[float]], float], values: Iterable[float | None]
) -> float | None:
    """The function of the values; None where one is unknown, or there are none."""
    seen = list(values)
    known = [value for value in seen if value is not None]
    return function(known) if known and len(known) == len(seen) else None
