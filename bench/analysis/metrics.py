"""The metrics that a scenario can name, as functions of samples. `_all` lists them."""

from __future__ import annotations

import difflib
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench.analysis import rates, timings
from bench.analysis.estimates import minimum_n, percentile
from bench.analysis.rates import Slos, carried_rps
from bench.errors import UserError
from bench.records import Direction, Sample, Trial

PERCENTS = (50, 90, 95, 99)

Function = Callable[[Sequence[Sample], float, Slos], float | None]
Values = Callable[[Sequence[Sample]], list[float]]

_OF_A_REQUEST: Mapping[str, Callable[[Sample], float | None]] = {
    "ttft": timings.ttft_s,
    "scheduled_ttft": timings.scheduled_ttft_s,
    "e2e": timings.e2e_s,
    "scheduled_e2e": timings.scheduled_e2e_s,
    "tpot": timings.tpot_s,
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a trial. `unit` is "s", "req/s", "tok/s" or "share".

    `function(samples, duration_s, slos by model)` returns it, or None if it is not defined.
    `count` returns the number of values that it rests on; below `minimum_n` it is not judged. A
    `windowed` metric is a rate inside each trial's own offered window. `across`, where set, makes
    the metric from several trials, in place of `function` of their pooled requests. With
    `tenant`, only that tenant's requests count.
    """

    name: str
    unit: str
    direction: Direction
    function: Function
    count: Callable[[Sequence[Sample]], int] = len
    minimum_n: int = 1
    windowed: bool = False
    across: Callable[[Sequence[Trial]], float | None] | None = None
    tenant: str = ""

    def over(self, trials: Sequence[Trial]) -> float | None:
        """The metric of several trials of one arm and scenario, their requests pooled."""
        trials = self._own(trials)
        if not trials:
            return None
        if self.across is not None:
            return self.across(trials)
        if self.windowed:
            return self._mean_rate(trials)
        samples = tuple(itertools.chain.from_iterable(trial.samples for trial in trials))
        return self.function(samples, _total_s(trials), trials[0].scenario.slos)

    def n(self, trials: Sequence[Trial]) -> int:
        """How many values `over` rests on."""
        return sum(self.count(trial.samples) for trial in self._own(trials))

    def _own(self, trials: Sequence[Trial]) -> Sequence[Trial]:
        return [part_of(one, tenant=self.tenant) for one in trials] if self.tenant else trials

    def _mean_rate(self, trials: Sequence[Trial]) -> float | None:
        amount = 0.0
        for trial in trials:
            rate = self.function(trial.samples, trial.duration_s, trial.scenario.slos)
            if rate is None:
                return None
            amount += rate * trial.duration_s
        return amount / _total_s(trials)


def metric(name: str) -> Metric:
    """The metric `NAME`, or `NAME@TENANT` of one tenant. Raises UserError with the closest name."""
    base, _, tenant = name.partition("@")
    try:
        return replace(METRICS[base], name=name, tenant=tenant)
    except KeyError:
        close = difflib.get_close_matches(base, METRICS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(METRICS)}"
        raise UserError(f"unknown metric {name!r}; {hint}") from None


def part_of(trial: Trial, *, model: str = "", tenant: str = "") -> Trial:
    """The trial with only the requests to `model`, or of `tenant`, or both; "" takes all."""

    def kept(samples: Sequence[Sample]) -> tuple[Sample, ...]:
        return tuple(
            one
            for one in samples
            if (not model or one.model == model) and (not tenant or one.tenant == tenant)
        )

    return replace(trial, samples=kept(trial.samples), bypassed=kept(trial.bypassed))


def _total_s(trials: Iterable[Trial]) -> float:
    return sum(trial.duration_s for trial in trials)


def _each(timing: Callable[[Sample], float | None], samples: Sequence[Sample]) -> list[float]:
    return [seconds for seconds in map(timing, samples) if seconds is not None]


def _gaps_s(samples: Sequence[Sample]) -> list[float]:
    return list(itertools.chain.from_iterable(map(timings.gaps_s, samples)))


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _latencies(quantity: str, values: Values) -> Iterator[Metric]:
    """The percentiles and the mean of one quantity; one failure makes the mean infinite."""

    def count(samples: Sequence[Sample]) -> int:
        return len(values(samples))

    def of_values(statistic: Callable[[Sequence[float]], float | None]) -> Function:
        return lambda samples, _duration_s, _slos: statistic(values(samples))

    for percent in PERCENTS:
        yield Metric(
            name=f"{quantity}_p{percent}_s",
            unit="s",
            direction="lower",
            function=of_values(partial(percentile, percent=percent)),
            count=count,
            minimum_n=minimum_n(percent),
        )
    yield Metric(f"{quantity}_mean_s", "s", "lower", of_values(_mean), count)


def _all() -> Iterator[Metric]:
    for quantity, timing in _OF_A_REQUEST.items():
        yield from _latencies(quantity, partial(_each, timing))
    yield from _latencies("itl", _gaps_s)
    yield Metric("throughput_rps", "req/s", "higher", rates.throughput_rps, windowed=True)
    yield Metric("output_tps", "tok/s", "higher", rates.output_tps, windowed=True)
    yield Metric("goodput_rps", "req/s", "higher", rates.goodput_rps, windowed=True)
    yield Metric("slo_attainment", "share", "higher", rates.slo_attainment)
    yield Metric("error_rate", "share", "lower", rates.error_rate)
    yield Metric("fairness", "share", "higher", rates.fairness)
    yield Metric("service_fairness", "share", "higher", rates.service_fairness, windowed=True)
    # Attainment is a share like a percentile, and as coarse where requests are few.
    yield Metric(
        name="carried_rps",
        unit="req/s",
        direction="higher",
        function=rates.slo_attainment,
        minimum_n=minimum_n(90),
        across=carried_rps,
    )


METRICS: Mapping[str, Metric] = {one.name: one for one in _all()}
