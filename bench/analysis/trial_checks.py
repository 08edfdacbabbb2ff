"""Whether the instrument did its work, block by block: by its own readings, whatever the arms did.

A block in which it did not is set aside and another one measured in its place. What sets a
block aside is the same for both arms, so that which blocks count does not depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.bounds import ValidityBounds
from bench.analysis.checks import Check, checks, worst_last
from bench.records import Trial

Trials = Sequence[Trial]
# Of capacity, which repeats to less.
SPEED_CHANGED = 0.05


def place(trial: Trial) -> str:
    return f"block {trial.block} trial {trial.position} ({trial.role} {trial.arm})"


def trial_reasons(trials: Trials) -> Iterator[str]:
    """Why single trials do not count: cut short, empty."""
    for trial in trials:
        if trial.cut_short:
            yield f"{place(trial)} was cut short after {trial.elapsed_s:.1f} s"
        if not trial.samples:
            yield f"{place(trial)} has no requests"


def disturbances(block: Trials, bounds: ValidityBounds) -> tuple[str, ...]:
    """What disturbed the trials of a block, and may be over when another one is measured."""
    return tuple(
        f"{check.what} {check.form(beyond[0])}, bound {check.form(check.bound(block))}"
        for check in checks(bounds)
        if check.passing and (beyond := check.beyond(block)) is not None
    )


def check_reasons(blocks: Sequence[Trials], bounds: ValidityBounds) -> Iterator[str]:
    """A line for each check that some block is beyond, with the worst one."""
    for check in checks(bounds):
        yield from _worst(check, blocks)


def unknown_readings(trials: Trials) -> Iterator[str]:
    """A line when nobody knows what else the machine did. No reason against validity."""
    unknown = [trial for trial in trials if trial.instrument.foreign_cpu_share is None]
    if unknown:
        yield (
            f"how much CPU time other processes took is unknown in {len(unknown)} of"
            f" {len(trials)} trials"
        )


def changed_speed(trials: Trials) -> Iterator[str]:
    """A line when the engines were not always as fast. No reason against validity."""
    told = [(trial.capacity_rps, trial.capacity_after_rps) for trial in trials]
    known = [rps for both in told for rps in both if rps is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if high - low > SPEED_CHANGED * high:
        closed = all(trial.concurrency is not None for trial in trials)
        load = "the users followed it" if closed else "each block's load is a share of it"
        yield f"the engines changed speed: they could serve {low:.1f} to {high:.1f} req/s; {load}"


def _worst(check: Check, blocks: Sequence[Trials]) -> Iterator[str]:
    found = [(*beyond, block) for block in blocks if (beyond := check.beyond(block)) is not None]
    if found:
        seen, worst, block = max(found, key=worst_last)
        where = f"block {worst.block}" if check.mean else place(worst)
        yield (
            f"{check.what} {check.form(seen)} in {where}, bound {check.form(check.bound(block))}"
            f" ({len(found)} of {len(blocks)} blocks beyond); {check.remedy}"
        )
