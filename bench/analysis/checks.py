"""Whether the instrument worked well enough: its readings in each block, and their bounds.

A block in which it did not is set aside, and another one is measured in its place. Bounds are the
same for both arms, so that which blocks count does not depend on the arms.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.analysis.estimates import percentile
from bench.analysis.timings import scheduled_ttft_s, ttft_s
from bench.records import ErrorKind, Sample, Trial

Trials = Sequence[Trial]
Seen = Callable[[Trial], float | None]
Bound = Callable[[Trials], float]

LATE = "give the client a core of its own or offer less"
# Share of capacity. Measurements of capacity that follow each other differ by less.
SPEED_CHANGED = 0.05


@dataclass(frozen=True, slots=True)
class ValidityBounds:
    """Bounds of the validity checks, each for a block as a whole.

    `lag_floor_s`, `lag_share`: the client may be late (dispatch, event loop; p99) by the larger
    of the floor and this share of the block's scheduled TTFT p95.
    `client_cpu_share`: of one core; beyond it the client measures itself.
    `slip_share`: how much later the client may send at the end than at the start, as a share of
    the trial's window, but at least `lag_floor_s`. `error_floor_s`, `error_share`: the median
    error of the client's timing, the larger of the floor and this share of the TTFT p50.
    `foreign_cpu_share`, `stolen_cpu_share`: what others may take of the time of all cores, on
    average over the block.
    `sent_share`: of a trial's planned requests. `error_rate`: of an arm's requests; beyond it
    the arms no longer did the same work. `token_match`: share of an arm's answers with exactly
    the prompt and output tokens that were asked for. `answer_length`: how much longer an arm's
    answers may be on average, where their lengths are not exact.
    """

    lag_floor_s: float = 0.05
    lag_share: float = 0.10
    client_cpu_share: float = 0.90
    slip_share: float = 0.01
    error_floor_s: float = 0.005
    error_share: float = 0.05
    foreign_cpu_share: float = 0.20
    stolen_cpu_share: float = 0.10
    sent_share: float = 0.95
    error_rate: float = 0.02
    token_match: float = 0.99
    answer_length: float = 0.10


DEFAULT_BOUNDS = ValidityBounds()


@dataclass(frozen=True, slots=True)
class Check:
    """A reading of each trial with the bound of its block, and what to do when it is beyond.

    A reading is None where it is not known, and then not checked. The worst trial of a block
    must be within the bound, or, with `mean`, the mean of its trials. With `passing` the next
    block may be within. All trials of a block have one bound: it must not be laxer for the slower
    arm.
    """

    what: str
    form: Callable[[float], str]
    seen: Seen
    bound: Bound
    remedy: str
    passing: bool = True
    mean: bool = False

    def beyond(self, block: Trials) -> tuple[float, Trial] | None:
        """The reading and the worst trial of a block that is beyond its bound; else None."""
        read = [(seen, trial) for trial in block if (seen := self.seen(trial)) is not None]
        if not read:
            return None
        seen, worst = max(read, key=_badness)
        if self.mean:
            seen = statistics.fmean(value for value, _ in read)
        # Not "seen > bound": a reading that is not a number is no proof of good work.
        return None if seen <= self.bound(block) else (seen, worst)


def checks(bounds: ValidityBounds) -> tuple[Check, ...]:
    """Every check, in the order in which reasons are given."""
    lag_bound_s = _latency_bound_s(scheduled_ttft_s, 95, bounds.lag_floor_s, bounds.lag_share)
    error_bound_s = _latency_bound_s(ttft_s, 50, bounds.error_floor_s, bounds.error_share)

    def slip_bound_s(block: Trials) -> float:
        return max(bounds.lag_floor_s, bounds.slip_share * block[0].duration_s)

    def work(field: str) -> Seen:
        return lambda trial: getattr(trial.instrument, field)

    return (
        Check("dispatch lag p99", _ms, work("dispatch_lag_p99_s"), lag_bound_s, LATE),
        Check("event loop lag p99", _ms, work("loop_lag_p99_s"), lag_bound_s, LATE),
        Check("schedule slip", _ms, _trial_slip_s, slip_bound_s, LATE),
        _share("client CPU", work("cpu_share"), bounds.client_cpu_share, "offer less"),
        _share("planned requests not sent", _unsent_share, 1 - bounds.sent_share, LATE),
        _share(
            "CPU time of other processes",
            work("foreign_cpu_share"),
            bounds.foreign_cpu_share,
            "end them and measure again, or give the run cores of its own with taskset",
            mean=True,
        ),
        _share(
            "CPU time taken by the machine's host",
            work("stolen_cpu_share"),
            bounds.stolen_cpu_share,
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


def _share(what: str, seen: Seen, most: float, remedy: str, *, mean: bool = False) -> Check:
    """The check of a share with the same bound, `most`, in all blocks."""
    return Check(what, _percent, seen, lambda _: most, remedy, mean=mean)


def slip_s(samples: Sequence[Sample]) -> float | None:
    """Median lateness of the last tenth of the requests − that of the first tenth.

    Lateness is sent − intended arrival. It shows whether an open loop falls further and further
    behind: one stall moves no median, and being equally late all the time is dispatch lag. None
    if fewer than ten requests were sent.
    """
    sent = [
        (one.scheduled_s, one.sent_s - one.scheduled_s) for one in samples if one.sent_s is not None
    ]
    lags_s = [lag_s for _, lag_s in sorted(sent)]
    tenth = len(lags_s) // 10
    if not tenth:
        return None
    return statistics.median(lags_s[-tenth:]) - statistics.median(lags_s[:tenth])


def place(trial: Trial) -> str:
    """Which trial it is: `block 3 trial 0 (control baseline)`."""
    return f"block {trial.block} trial {trial.position} ({trial.role} {trial.arm})"


def _cut_short(trials: Trials) -> Iterator[str]:
    for trial in trials:
        if trial.cut_short:
            yield f"{place(trial)} was cut short after {trial.elapsed_s:.1f} s"


def trial_reasons(trials: Trials) -> Iterator[str]:
    """A line for each trial that was cut short or is empty."""
    yield from _cut_short(trials)
    for trial in trials:
        if not trial.samples:
            yield f"{place(trial)} has no requests"


def disturbances(block: Trials, bounds: ValidityBounds) -> tuple[str, ...]:
    """What disturbed the trials of a block, if the next block may be without it."""
    beyond = (
        f"{check.what} {check.form(read[0])}, bound {check.form(check.bound(block))}"
        for check in checks(bounds)
        if check.passing and (read := check.beyond(block)) is not None
    )
    return (*_cut_short(block), *beyond)


def check_reasons(blocks: Sequence[Trials], bounds: ValidityBounds) -> Iterator[str]:
    """A line for each check that some block is beyond, with the worst one."""
    for check in checks(bounds):
        read = ((check.beyond(block), block) for block in blocks)
        found = [(*beyond, block) for beyond, block in read if beyond is not None]
        if found:
            seen, worst, block = max(found, key=_badness)
            where = f"block {worst.block}" if check.mean else place(worst)
            yield (
                f"{check.what} {check.form(seen)} in {where}, bound"
                f" {check.form(check.bound(block))} ({len(found)} of {len(blocks)} blocks beyond);"
                f" {check.remedy}"
            )


def unknown_readings(trials: Trials) -> Iterator[str]:
    """A line when the CPU time of other processes is unknown. The trials stay valid."""
    unknown = [trial for trial in trials if trial.instrument.foreign_cpu_share is None]
    if unknown:
        yield (
            f"how much CPU time other processes took is unknown in {len(unknown)} of"
            f" {len(trials)} trials"
        )


def changed_speed(trials: Trials) -> Iterator[str]:
    """A line when the engines' speed changed. The trials stay valid."""
    speeds = [rps for one in trials for rps in (one.capacity_rps, one.capacity_after_rps)]
    known = [rps for rps in speeds if rps is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if high - low > SPEED_CHANGED * high:
        closed = all(trial.concurrency is not None for trial in trials)
        load = "a closed loop's load follows it" if closed else "each block's load is a share of it"
        yield f"the engines changed speed: they could serve {low:.1f} to {high:.1f} req/s; {load}"


def _badness(read: tuple[float, *tuple[object, ...]]) -> float:
    """The key by which readings are sorted: NaN is the worst."""
    return math.inf if math.isnan(read[0]) else read[0]


def _latency_bound_s(
    timing: Callable[[Sample], float], percent: int, floor_s: float, share: float
) -> Bound:
    """A share of a percentile over the block's answers of both arms, but at least the floor."""

    def bound_s(block: Trials) -> float:
        seconds = [timing(sample) for trial in block for sample in trial.samples if sample.ok]
        return max(floor_s, share * (percentile(seconds, percent) or 0.0))

    return bound_s


def _trial_slip_s(trial: Trial) -> float | None:
    return slip_s(trial.samples + trial.bypassed) if trial.concurrency is None else None


def _error_s(trial: Trial) -> float | None:
    accuracy = trial.instrument.accuracy
    if accuracy is None:
        return None
    return max(one.p50_s for one in (accuracy.ttft, accuracy.itl, accuracy.e2e))


def _unsent_share(trial: Trial) -> float:
    """Requests that the client never tried to send / all planned."""
    planned = trial.samples + trial.bypassed
    tried = {ErrorKind.CONNECT, ErrorKind.RESOLVE}
    unsent = [one for one in planned if one.sent_s is None and one.error not in tried]
    return len(unsent) / len(planned) if planned else 0.0


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
