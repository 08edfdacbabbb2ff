"""Where a series of results of runs moved, and how small a move it could show.

After each run, the runs since the last move are split where the sums of squares between the two
parts are largest. A t-test says whether the parts differ; its error rate is shared among all places
of the split. What was found stays found, also where the series moved back later. A run is one
value. docs/evidence/README.md has how often this is right.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from scipy.special import stdtr, stdtrit

from bench.analysis.estimates import ratio_of, welch_interval
from bench.analysis.verdict import ALPHA, MATERIAL, POWER

# Runs on each side of a move, so that a single one that went astray makes none.
SIDE = 3
# The two-sided error rate of the search after one run.
ALARM = 0.001
# With fewer runs than it takes to find a move by this factor, data are insufficient.
FINDS = 1.2
# More runs than this are never asked for.
_MOST = 1000


class State(StrEnum):
    """What is known of a series."""

    STEADY = "steady"
    MOVED = "moved"
    INSUFFICIENT = "insufficient data"


@dataclass(frozen=True, slots=True)
class Move:
    """From `index` on, values are others: geometric means `before` and `after` it.

    They are of the runs between this move and its neighbours. `factor` is after / before with its
    99 % interval [`low`, `high`].
    """

    index: int
    before: float
    after: float
    factor: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Watched:
    """The state of a series, with its moves in their order.

    `finds` is the smallest factor by which a move in the middle of the series is found in 90 % of
    cases, None where nothing is known of the noise. `more` is how many runs are lacking, about,
    until a move by `FINDS` is found so often; 0 unless data are insufficient.
    """

    state: State
    moves: tuple[Move, ...] = ()
    finds: float | None = None
    more: int = 0


def watch(values: Sequence[float]) -> Watched:
    """What is known of a series of ratios or times, oldest first; all are finite and above 0."""
    logs = [math.log(value) for value in values]
    if places := tuple(_places(logs)):
        edges = (0, *places, len(logs))
        parts = [logs[start:end] for start, end in pairwise(edges)]
        return Watched(State.MOVED, tuple(map(_move, places, parts, parts[1:])))
    runs = len(logs)
    if runs < 2 * SIDE:
        return Watched(State.INSUFFICIENT, more=2 * SIDE - runs)
    spread = statistics.stdev(logs)
    enough = next((n for n in range(runs, _MOST) if _findable(spread, n) <= FINDS), _MOST)
    state = State.STEADY if enough == runs else State.INSUFFICIENT
    return Watched(state, finds=_findable(spread, runs), more=enough - runs)


def _places(logs: Sequence[float]) -> Iterator[int]:
    """The index of the first value after each move."""
    start = 0
    for end in range(1, len(logs) + 1):
        place = _split(logs[start:end])
        if place is not None:
            start += place
            yield start


def _split(logs: Sequence[float]) -> int | None:
    """The index of the first value after the clearest move; None if there is none."""
    runs = len(logs)
    if runs < 2 * SIDE:
        return None
    centred = np.asarray(logs) - statistics.fmean(logs)
    before = np.arange(SIDE, runs - SIDE + 1)
    sums = np.cumsum(centred)[before - 1]
    # As the mean of all is 0, these follow from the sum of one part.
    between = sums**2 * runs / (before * (runs - before))
    best = int(np.argmax(between))
    within = max(float(centred @ centred - between[best]), 0.0)
    size = abs(float(sums[best])) * runs / (before[best] * (runs - before[best]))
    if size < MATERIAL:
        return None
    t = math.sqrt(between[best] * (runs - 2) / within) if within > 0 else math.inf
    return int(before[best]) if 2 * stdtr(runs - 2, -t) * len(before) < ALARM else None


def _move(index: int, before: Sequence[float], after: Sequence[float]) -> Move:
    seen = welch_interval(before, after, ALPHA)
    assert seen is not None  # a part has SIDE values or more
    means = (ratio_of(statistics.fmean(part)) for part in (before, after))
    return Move(index, *means, *map(ratio_of, (seen.mean, seen.low, seen.high)))


def _findable(spread: float, runs: int) -> float:
    """The factor of a move in the middle that is found with a power of 90 %."""
    places = runs - 2 * SIDE + 1
    quantiles = stdtrit(runs - 2, [1 - ALARM / 2 / places, POWER])
    error = spread * math.sqrt(1 / (runs // 2) + 1 / (runs - runs // 2))
    return ratio_of(max(MATERIAL, float(sum(quantiles)) * error))
