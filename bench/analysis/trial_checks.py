"""Whether the client kept up, trial by trial. One line per check names the worst trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bench.analysis.bounds import ValidityBounds
from bench.analysis.percentile import percentile
from bench.analysis.timings import scheduled_ttft_s
from bench.records import ErrorKind, Sample, Trial

Reading = Callable[[Trial], float]


def place(trial: Trial) -> str:
    return f"block {trial.block} trial {trial.position} ({trial.role} {trial.arm})"


def trial_reasons(trials: Sequence[Trial], bounds: ValidityBounds) -> Iterator[str]:
    """Why single trials do not count: cut short, empty, late, too busy, not all sent."""
    for trial in trials:
        if trial.cut_short:
            yield f"{place(trial)} was cut short after {trial.elapsed_s:.1f} s"
        if not trial.samples:
            yield f"{place(trial)} has no requests"

    def lag_bound_s(trial: Trial) -> float:
        answered = [scheduled_ttft_s(sample) for sample in trial.samples if sample.ok]
        return max(bounds.lag_floor_s, bounds.lag_share * (percentile(answered, 95) or 0.0))

    def busy(_: Trial) -> float:
        return bounds.client_cpu_share

    def unsent(_: Trial) -> float:
        return 1 - bounds.sent_share

    yield from _worst("dispatch lag p99", _ms, trials, _dispatch_lag_s, lag_bound_s)
    yield from _worst("event loop lag p99", _ms, trials, _loop_lag_s, lag_bound_s)
    yield from _worst("client CPU", _percent, trials, _cpu_share, busy)
    yield from _worst("planned requests not sent", _percent, trials, _unsent_share, unsent)


def _worst(
    what: str, form: Callable[[float], str], trials: Sequence[Trial], seen: Reading, bound: Reading
) -> Iterator[str]:
    # Not "seen > bound": a reading that is not a number is no proof of good work.
    beyond = [trial for trial in trials if not seen(trial) <= bound(trial)]
    if beyond:
        worst = max(beyond, key=seen)
        yield (
            f"{what} {form(seen(worst))} in {place(worst)}, bound {form(bound(worst))}"
            f" ({len(beyond)} of {len(trials)} trials beyond)"
        )


def _dispatch_lag_s(trial: Trial) -> float:
    return trial.instrument.dispatch_lag_p99_s


def _loop_lag_s(trial: Trial) -> float:
    return _told(trial.instrument.loop_lag_p99_s)


def _cpu_share(trial: Trial) -> float:
    return _told(trial.instrument.cpu_share)


def _told(reading: float | None) -> float:
    """A reading that the driver does not tell is in no check; its notes say so."""
    return 0.0 if reading is None else reading


def _unsent_share(trial: Trial) -> float:
    planned = trial.samples + trial.bypassed
    return sum(map(_never_tried, planned)) / len(planned) if planned else 0.0


def _never_tried(sample: Sample) -> bool:
    """Whether the client owes the request; a connection that failed is the system's fault."""
    return sample.sent_s is None and sample.error is not ErrorKind.CONNECT


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
