"""Stratified draws, of which everything that varies from request to request is made.

Of n draws, one falls into each n-th of [0, 1), and of every 20 in a row one into each
twentieth, in random order. With independent draws the work of a short trial, and of each
second in it, varies by tens of percent, and near saturation that decides more about its
latencies than either arm does. A closed loop sends only the beginning of what was planned:
it is as representative as the whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A twentieth is also as fine as the shares of requests are usually given.
RUN = 20


def stratified(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """One uniform value from each `count`-th of [0, 1), stratified in every run as well."""
    strata = np.arange(count)
    parts = strata * RUN // max(count, 1)
    by_part = np.lexsort((rng.random(count), parts))
    # The n-th of each part belongs to the n-th run; the last run may lack some parts.
    run = strata - np.searchsorted(parts, parts)
    order = by_part[np.lexsort((rng.random(count), run))]
    drawn = (order + rng.random(count)) / max(count, 1)
    # the sum may round up to the next integer
    return np.minimum(drawn, np.nextafter(1.0, 0.0))
