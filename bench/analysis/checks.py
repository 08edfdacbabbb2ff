"""What is read off a block's trials to tell whether the client kept up, and its bounds."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.analysis.bounds import ValidityBounds
from bench.analysis.estimates import percentile
from bench.analysis.slip import slip_s
from bench.analysis.timings import scheduled_ttft_s, ttft_s
from bench.records import ErrorKind, Sample, Trial

LATE = "give the client a core of its own or offer less"


@dataclass(frozen=True, slots=True)
class Check:
    """A reading of each trial with the bound of its block, and what to do when it is beyond.

    A reading is None where there is none; that is neither good nor bad. The worst trial of a
    block must be within the bound, or only their `mean`. Where it is `passing`, another block
    may well be within. A bound is one for all trials of a block: it must not be laxer for the
    slower arm.
    """

    what: str
    form: Callable[[float], str]
    seen: Callable[[Trial], float | None]
    bound: Callable[[Sequence[Trial]], float]
    remedy: str
    passing: bool = True
    mean: bool = False

    def beyond(self, block: Sequence[Trial]) -> tuple[float, Trial] | None:
        """The reading where it is beyond its bound, and the worst trial."""
        read = [(seen, trial) for trial in block if (seen := self.seen(trial)) is not None]
        if not read:
            return None
        seen, worst = max(read, key=worst_last)
        if self.mean:
            seen = statistics.fmean(value for value, _ in read)
        # Not "seen > bound": a reading that is not a number is no proof of good work.
        return None if seen <= self.bound(block) else (seen, worst)


def checks(bounds: ValidityBounds) -> tuple[Check, ...]:
    """Every check, in the order in which reasons are told."""

    def lag_bound_s(block: Sequence[Trial]) -> float:
        waits_s = [scheduled_ttft_s(sample) for sample in _answered(block)]
        return max(bounds.lag_floor_s, bounds.lag_share * (percentile(waits_s, 95) or 0.0))

    def slip_bound_s(block: Sequence[Trial]) -> float:
        return max(bounds.lag_floor_s, bounds.slip_share * block[0].duration_s)

    def error_bound_s(block: Sequence[Trial]) -> float:
        waits_s = [ttft_s(sample) for sample in _answered(block)]
        return max(bounds.error_floor_s, bounds.error_share * (percentile(waits_s, 50) or 0.0))

    return (
        Check(
            "dispatch lag p99",
            _ms,
            lambda trial: trial.instrument.dispatch_lag_p99_s,
            lag_bound_s,
            LATE,
        ),
        Check(
            "event loop lag p99",
            _ms,
            lambda trial: trial.instrument.loop_lag_p99_s,
            lag_bound_s,
            LATE,
        ),
        Check("schedule slip", _ms, _slip_s, slip_bound_s, LATE),
        Check(
            "client CPU",
            _percent,
            lambda trial: trial.instrument.cpu_share,
            lambda _: bounds.client_cpu_share,
            "offer less",
        ),
        Check(
            "planned requests not sent",
            _percent,
            _unsent_share,
            lambda _: 1 - bounds.sent_share,
            LATE,
        ),
        Check(
            "CPU time of other processes",
            _percent,
            lambda trial: trial.instrument.foreign_cpu_share,
            lambda _: bounds.foreign_cpu_share,
            "end them and measure again, or give the run cores of its own with taskset",
            mean=True,
        ),
        Check(
            "CPU time taken by the machine's host",
            _percent,
            lambda trial: trial.instrument.stolen_cpu_share,
            lambda _: bounds.stolen_cpu_share,
            "measure again, or on a machine with cores of its own",
            mean=True,
        ),
        Check(
            "median error of the client's timing",
            _ms,
            _error_s,
            error_bound_s,
            "see what make calibrate tells on an idle machine",
            passing=False,  # it was measured once, at the run's start
        ),
    )


def worst_last(read: tuple[float, *tuple[object, ...]]) -> float:
    """Sorts readings: what is not a number is the worst of all."""
    return math.inf if math.isnan(read[0]) else read[0]


def _answered(block: Sequence[Trial]) -> list[Sample]:
    """The answers of all trials, both arms alike."""
    samples = itertools.chain.from_iterable(trial.samples for trial in block)
    return [sample for sample in samples if sample.ok]


def _slip_s(trial: Trial) -> float | None:
    return slip_s(trial.samples + trial.bypassed) if trial.concurrency is None else None


def _error_s(trial: Trial) -> float | None:
    accuracy = trial.instrument.accuracy
    if accuracy is None:
        return None
    return max(one.p50_s for one in (accuracy.ttft, accuracy.itl, accuracy.e2e))


def _unsent_share(trial: Trial) -> float:
    planned = trial.samples + trial.bypassed
    return sum(map(_never_tried, planned)) / len(planned) if planned else 0.0


def _never_tried(sample: Sample) -> bool:
    """Whether the client owes the request; a connection that failed is the system's fault."""
    return sample.sent_s is None and sample.error not in {ErrorKind.CONNECT, ErrorKind.RESOLVE}


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
