"""Measures how busy the load generator itself is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from bench.records import Instrument

# Each tick wakes the process up, which costs as much as five chunks.
_PERIOD_S = 0.02


class Meter:
    """Measures the running event loop's lateness and the process's CPU time.

    Ticks lie on a fixed grid, so that a stall of half a second counts as twenty-five late
    ticks and not as one, which no percentile would show.
    """

    def __init__(self) -> None:
        self._lags_s: list[float] = []
        self._started_s = self._due_s = time.monotonic()
        self._started_cpu_s = time.process_time()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_soon(self._tick)

    def stop(self, dispatch_lags_s: Sequence[float]) -> Instrument:
        """The readings, with the dispatch lags of the requests sent meanwhile. Call once."""
        wall_s = time.monotonic() - self._started_s
        cpu_s = time.process_time() - self._started_cpu_s
        self._tick()
        self._timer.cancel()
        return Instrument(
            # Nothing was late if nothing could be sent; the samples' errors say so.
            dispatch_lag_p99_s=_p99(dispatch_lags_s) if dispatch_lags_s else 0.0,
            loop_lag_p99_s=_p99(self._lags_s),
            cpu_share=cpu_s / wall_s,
        )

    def _tick(self) -> None:
        now_s = time.monotonic()
        while self._due_s <= now_s:
            self._lags_s.append(max(0.0, now_s - self._due_s))
            self._due_s += _PERIOD_S
        self._timer = self._loop.call_later(self._due_s - now_s, self._tick)


def _p99(values: Sequence[float]) -> float:
    return float(np.percentile(values, 99))
