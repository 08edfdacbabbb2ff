"""Whether two endpoints are alike before anything is measured: their answers and their ways."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.estimates import t_interval
from bench.environments.external.checks import Examined, round_trips_s

_ROUND_TRIPS = 20
# Two-sided error rate of the interval of a difference.
_ALPHA = 0.05
_SHOWN_CHARACTERS = 40


def answers_note(model: str, found: Sequence[Examined]) -> str | None:
    """A line where endpoints answer one prompt differently at temperature 0; None if all agree."""
    first = found[0]
    for other in found[1:]:
        if other.text != first.text:
            return (
                f"{model}: the endpoints answer the same prompt differently at temperature 0, so "
                f"models or settings may differ: {first.name} {first.text[:_SHOWN_CHARACTERS]!r}, "
                f"{other.name} {other.text[:_SHOWN_CHARACTERS]!r}"
            )
    return None


def round_trip_note(found: Sequence[Examined]) -> str | None:
    """The round trips to the first two endpoints, asked in turn, and their difference.

    None where there is only one.
    """
    if len(found) < 2:
        return None
    first, second = found[:2]
    pairs = round_trips_s(first, second, _ROUND_TRIPS)
    interval = t_interval([two - one for one, two in pairs], _ALPHA)
    if interval is None:
        return None
    means = [1000 * sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
    low, middle, high = (1000 * one for one in (interval.low, interval.mean, interval.high))
    return (
        f"{first.name} {means[0]:.1f} ms, {second.name} {means[1]:.1f} ms, "
        f"difference {middle:.1f} ms [{low:.1f}, {high:.1f}]"
    )
