"""Whether the client kept up, trial by trial. One line per check names the worst trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.bounds import ValidityBounds
from bench.analysis.checks import Check, checks
from bench.records import Trial


def place(trial: Trial) -> str:
    return f"block {trial.block} trial {trial.position} ({trial.role} {trial.arm})"


def trial_reasons(trials: Sequence[Trial], bounds: ValidityBounds) -> Iterator[str]:
    """Why single trials do not count: cut short, empty, late, too busy, not all sent."""
    for trial in trials:
        if trial.cut_short:
            yield f"{place(trial)} was cut short after {trial.elapsed_s:.1f} s"
        if not trial.samples:
            yield f"{place(trial)} has no requests"
    for check in checks(bounds):
        yield from _worst(check, trials)


def disturbances(trial: Trial, bounds: ValidityBounds) -> tuple[str, ...]:
    """What kept the client from its work in a trial, and may be over when it is run again."""
    return tuple(
        f"{check.what} {check.form(seen)}, bound {check.form(check.bound(trial))}"
        for check in checks(bounds)
        if check.passing and (seen := check.beyond(trial)) is not None
    )


def repeats(trials: Sequence[Trial]) -> Iterator[str]:
    """A line for each trial that was measured again. No reason against validity."""
    for trial in trials:
        if trial.repeated:
            times = len(trial.repeated)
            often = f", {times} times" if times > 1 else ""
            yield f"{place(trial)} was measured again{often}: {trial.repeated[0]}"


def unknown_readings(trials: Sequence[Trial]) -> Iterator[str]:
    """A line when nobody knows what else the machine did. No reason against validity."""
    unknown = [trial for trial in trials if trial.instrument.foreign_cpu_share is None]
    if unknown:
        yield (
            f"how much CPU time other processes took is unknown in {len(unknown)} of"
            f" {len(trials)} trials"
        )


def _worst(check: Check, trials: Sequence[Trial]) -> Iterator[str]:
    beyond = [(seen, trial) for trial in trials if (seen := check.beyond(trial)) is not None]
    if beyond:
        seen, worst = max(beyond, key=lambda one: one[0])
        yield (
            f"{check.what} {check.form(seen)} in {place(worst)}, bound"
            f" {check.form(check.bound(worst))} ({len(beyond)} of {len(trials)} trials beyond);"
            f" {check.remedy}"
        )
