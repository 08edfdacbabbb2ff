"""Arrivals and lengths of a fitted trace, a window of it at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from bench.errors import UserError
from bench.load.traces.fit import Fit
from bench.load.workload import Ask


@dataclass(frozen=True, slots=True)
class Replay:
    """An open loop that sends what a trace has, when it has it, only faster or slower.

    Time is scaled by one factor for the whole trace, such that on average it offers
    `load` times the capacity measured for its lengths. A trial gets a window that begins
    anywhere in the trace: how much it then offers is up to the trace, which is what
    makes its traffic real.
    """

    fit: Fit = field(repr=False)
    load: float

    def __post_init__(self) -> None:
        if not self.load > 0:
            raise ValueError(f"load must be positive, got {self.load:g}")

    def time_factor(self, rate_rps: float) -> float:
        """Seconds of a trial per second of the trace, at `rate_rps` on average."""
        return self.fit.trace.rate_rps / rate_rps

    def stream(
        self, rate_rps: float, duration_s: float, rng: np.random.Generator
    ) -> Iterator[tuple[float, Ask]]:
        """What comes in [0, `duration_s`) of a trial, and when.

        Raises UserError when the whole trace is shorter than that.
        """
        factor, times_s = self.time_factor(rate_rps), self.fit.times_s
        long_s = duration_s / factor
        if long_s > self.fit.trace.span_s:
            raise UserError(
                f"trace {self.fit.trace.name} lasts {self.fit.trace.span_s * factor:.1f} s at "
                f"{rate_rps:.1f} req/s, a trial takes {duration_s:g} s; give a longer trace"
            )
        start_s = rng.uniform(0.0, self.fit.trace.span_s - long_s)
        first = bisect_left(times_s, start_s)
        for index in range(first, bisect_left(times_s, start_s + long_s)):
            yield (times_s[index] - start_s) * factor, self.fit.asks[index]


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedLengths:
    """The lengths of a fitted trace without its times: capacity is measured for them."""

    fit: Fit = field(repr=False)

    def draw(self, count: int, rng: np.random.Generator) -> Iterator[Ask]:
        """So many requests in a row, from anywhere in the trace on; then from its beginning."""
        asks = self.fit.asks
        first = int(rng.integers(len(asks)))
        return (asks[(first + index) % len(asks)] for index in range(count))

    def mean_output(self) -> float:
        """The mean length of an answer in tokens."""
        return float(np.mean([ask.output_tokens for ask in self.fit.asks]))
