"""Whether an open loop falls further and further behind its schedule."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from bench.records import Sample

_PARTS = 10


def slip_s(samples: Iterable[Sample]) -> float | None:
    """By how much the last tenth of the requests was sent later than the first: medians.

    Each counted from its intended arrival. One stall moves no median, and being late all
    along is dispatch lag and not slip. None of fewer than ten requests that were sent.
    """
    sent = [
        (one.scheduled_s, one.sent_s - one.scheduled_s) for one in samples if one.sent_s is not None
    ]
    lags_s = [lag_s for _, lag_s in sorted(sent)]
    tenth = len(lags_s) // _PARTS
    if not tenth:
        return None
    return statistics.median(lags_s[-tenth:]) - statistics.median(lags_s[:tenth])
