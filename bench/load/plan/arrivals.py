"""When requests arrive: pure functions of a rate, a duration and a generator.

An open loop sends at its own times, independent of the answers; a closed loop sends when an
answer has ended. Times are seconds in [0, duration), ascending.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


class OpenLoop(Protocol):
    """An arrival process whose mean rate is chosen by the caller."""

    @property
    def load(self) -> float:
        """Offered load as a share of measured capacity; the rate is load x capacity."""
        ...

    def times(self, rate_rps: float, duration_s: float, rng: np.random.Generator) -> Times:
        """Arrivals in [0, duration_s) at `rate_rps` on average."""
        ...


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent users: a Poisson process with a fixed number of arrivals, the mean one.

    With their number fixed, the arrivals of a Poisson process are uniform. A random number
    would give every short trial another load than the one asked for.
    """

    load: float

    def __post_init__(self) -> None:
        _require_positive(load=self.load)

    def times(self, rate_rps: float, duration_s: float, rng: np.random.Generator) -> Times:
        return np.sort(rng.uniform(0.0, duration_s, round(rate_rps * duration_s)))


@dataclass(frozen=True, slots=True)
class Constant:
    """Equal gaps. The phase is random, so that models do not arrive at the same times."""

    load: float

    def __post_init__(self) -> None:
        _require_positive(load=self.load)

    def times(self, rate_rps: float, duration_s: float, rng: np.random.Generator) -> Times:
        gap_s = 1.0 / rate_rps
        return np.arange(rng.uniform(0.0, gap_s), duration_s, gap_s)


@dataclass(frozen=True, slots=True)
class Gamma:
    """Gamma distributed gaps with shape `burstiness`, which is 1 / (their CV)².

    At 1 it is `Poisson`; below, requests come in clumps, above, more evenly. The number of
    arrivals is fixed, for the same reason as there.
    """

    load: float
    burstiness: float

    def __post_init__(self) -> None:
        _require_positive(load=self.load, burstiness=self.burstiness)

    def times(self, rate_rps: float, duration_s: float, rng: np.random.Generator) -> Times:
        count = round(rate_rps * duration_s)
        # One more gap than arrivals: the last one leads to the end. The window begins anywhere
        # in this cycle; otherwise its ends would have no clumps.
        ends = np.cumsum(rng.gamma(self.burstiness, size=count + 1))
        total = ends[-1] or 1.0  # all gaps may round to nothing
        return _within(np.sort((ends[:-1] / total + rng.uniform()) % 1.0) * duration_s, duration_s)


@dataclass(frozen=True, slots=True)
class Ramp:
    """As `Poisson`, but the rate changes linearly over the trial; `load` is its mean.

    It begins at `first` times the mean rate and ends at 2 - `first` times.
    """

    load: float
    first: float

    def __post_init__(self) -> None:
        _require_positive(load=self.load)
        if not 0.0 <= self.first <= 2.0:
            raise ValueError(f"first must be in [0, 2], got {self.first:g}")

    def times(self, rate_rps: float, duration_s: float, rng: np.random.Generator) -> Times:
        drawn = np.sort(rng.uniform(size=round(rate_rps * duration_s)))
        come = np.maximum(drawn, np.finfo(np.float64).tiny)
        # At a share x of the time, come = first x + (1 - first) x² of the requests have come.
        root = np.sqrt(self.first**2 + 4.0 * (1.0 - self.first) * come)
        return _within(2.0 * come / (self.first + root) * duration_s, duration_s)


@dataclass(frozen=True, slots=True)
class OnOff:
    """Bursts: as `Poisson`, but the rate alternates, beginning with the on-phase.

    `ratio` is the rate of the on-phase over the mean rate, in (1, (on_s + off_s) / on_s]; at
    the upper end the off-phase has no requests. The mean over the whole duration stays the
    one asked for, also when the last cycle is cut.
    """

    load: float
    on_s: float
    off_s: float
    ratio: float

    def __post_init__(self) -> None:
        _require_positive(load=self.load, on_s=self.on_s, off_s=self.off_s)
        if not 1.0 < self.ratio <= self._highest_ratio:
            raise ValueError(f"ratio must be in (1, {self._highest_ratio:g}], got {self.ratio:g}")

    @property
    def _highest_ratio(self) -> float:
        return (self.on_s + self.off_s) / self.on_s

    def times(self, rate_rps: float, duration_s: float, rng: np.random.Generator) -> Times:
        cycle_s = self.on_s + self.off_s
        off_rate = (cycle_s - self.ratio * self.on_s) / self.off_s
        starts_s = np.arange(0.0, duration_s, cycle_s)
        edges_s = np.append(np.column_stack((starts_s, starts_s + self.on_s)), duration_s)
        edges_s = np.minimum(edges_s, duration_s)
        rates = np.tile((self.ratio, off_rate), len(starts_s))
        return _in_steps(round(rate_rps * duration_s), edges_s, rates, rng)


@dataclass(frozen=True, slots=True)
class Steps:
    """As `Poisson`, but each of some equal parts of the trial has its own multiple of the rate."""

    rates: tuple[float, ...]

    def times(self, rate_rps: float, duration_s: float, rng: np.random.Generator) -> Times:
        """Arrivals in [0, duration_s), on average at `rate_rps` times the mean of `rates`."""
        edges_s = np.linspace(0.0, duration_s, len(self.rates) + 1)
        count = round(rate_rps * duration_s * sum(self.rates) / len(self.rates))
        return _in_steps(count, edges_s, np.array(self.rates), rng)


@dataclass(frozen=True, slots=True)
class Peaks:
    """Each model has one peak in a trial of as many equal parts as there are models.

    The peaks come one after another, in the order of the models, or with `together` all in the
    same part. Outside its peak a model has `low` times the peak's rate, in [0, 1). The number of
    a model's arrivals is the same either way. A single model has no peak but a steady rate.
    """

    load: float
    low: float
    together: bool = False

    def __post_init__(self) -> None:
        _require_positive(load=self.load)
        if not 0.0 <= self.low < 1.0:
            raise ValueError(f"low must be in [0, 1), got {self.low:g}")

    def ratio(self, models: int) -> float:
        """The rate of a peak over the model's mean rate."""
        return models / (1.0 + (models - 1) * self.low)

    def of(self, model: int, models: int) -> Steps:
        """The arrivals of a model, by its index, of so many `models`."""
        peak, ratio = models // 2 if self.together else model, self.ratio(models)
        return Steps(tuple(ratio * (1.0 if n == peak else self.low) for n in range(models)))


@dataclass(frozen=True, slots=True)
class LongTail:
    """As `Poisson`, but few models are busy and the others mostly idle.

    By Zipf's law the n-th model's rate is in proportion to 1 / n ** `exponent`.
    """

    load: float
    exponent: float

    def __post_init__(self) -> None:
        _require_positive(load=self.load, exponent=self.exponent)

    def of(self, model: int, models: int) -> Steps:
        """The arrivals of a model, by its index, of so many `models`."""
        weights = [(n + 1) ** -self.exponent for n in range(models)]
        return Steps((weights[model] * models / sum(weights),))


OfModels = Peaks | LongTail
"""Arrivals that differ from model to model; `load` is that of all models together."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Users who send their next request when the last one is answered.

    There are `per_sequence` users for each sequence that the replicas run at once. With one,
    a balancer that shares evenly lets nobody wait: whoever waits does so while another
    replica has room. With several, all replicas are full all the time and no balancer can
    share better. The load follows the engines' speed, so that a machine that slows down is
    not overloaded. A slow arm is sent less, which makes its tail look better than in an
    open loop: a difference that shows is real.
    """

    per_sequence: float

    def __post_init__(self) -> None:
        _require_positive(per_sequence=self.per_sequence)

    def concurrency(self, sequences: int) -> int:
        """Requests in flight for replicas that together run `sequences` at once."""
        return max(1, round(self.per_sequence * sequences))


def _in_steps(count: int, edges_s: Times, rates: Times, rng: np.random.Generator) -> Times:
    """`count` arrivals, whose rate between two edges is in proportion to one of `rates`."""
    # Uniform in cumulated intensity, mapped back to time.
    cumulated = np.append(0.0, np.cumsum(np.diff(edges_s) * rates))
    drawn = np.sort(rng.uniform(0.0, cumulated[-1], count))
    return _within(np.interp(drawn, cumulated, edges_s), float(edges_s[-1]))


def _within(times_s: Times, duration_s: float) -> Times:
    """`times_s`, kept below `duration_s`, to which a product may round up."""
    return np.minimum(times_s, np.nextafter(duration_s, 0.0))


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value:g}")
