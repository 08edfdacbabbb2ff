"""Whether the instrument did its work, judged before the system is.

Every reason is one line with the value seen and its bound. What is invalid has no
verdict: its numbers say as much about the client as about the arms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.arm_checks import arm_reasons
from bench.analysis.checks import ValidityBounds, check_reasons, place, trial_reasons
from bench.analysis.compare import ROLES, Block
from bench.analysis.metrics import Metric
from bench.records import Trial


def invalid_reasons(
    blocks: Sequence[Block], primary: Metric, bounds: ValidityBounds
) -> tuple[str, ...]:
    """Why what `blocks` show must not be judged; empty when it may."""
    return (
        *trial_reasons([trial for block in blocks for trial in block.trials]),
        *check_reasons([block.trials for block in blocks], bounds),
        *_unlike_schedules(blocks),
        *(reason for arm in arms(blocks) for reason in arm_reasons(arm, bounds)),
        *too_few(primary, blocks),
    )


def dead_replicas(blocks: Sequence[Block]) -> tuple[str, ...]:
    """A line for every replica that was found dead, with the first trial that met it."""
    first: dict[str, Trial] = {}
    for block in blocks:
        for trial in block.trials:
            first |= {name: trial for name in trial.dead_replicas if name not in first}
    return tuple(f"dead replica: {name} after {place(trial)}" for name, trial in first.items())


def too_few(metric: Metric, blocks: Sequence[Block]) -> tuple[str, ...]:
    """A line when the metric rests on too few values in some block."""
    counts = [
        (metric.n(trials), block.index, role)
        for block in blocks
        for role in ROLES
        if (trials := block.of(role))
    ]
    fewest, index, role = min(counts, default=(metric.minimum_n, 0, ROLES[0]))
    if fewest >= metric.minimum_n:
        return ()
    return (
        f"{metric.name} rests on {fewest} values in block {index} ({role});"
        f" it needs {metric.minimum_n}: lengthen the trials or raise the rate",
    )


def arms(blocks: Sequence[Block]) -> Iterator[tuple[Trial, ...]]:
    """All trials of each role that was run, control first."""
    for role in ROLES:
        if trials := tuple(trial for block in blocks for trial in block.of(role)):
            yield trials


def _unlike_schedules(blocks: Sequence[Block]) -> Iterator[str]:
    """A line for every block in which the arms did not replay the same schedules.

    In a search an arm may meet loads that the other does not; there is nothing to compare.
    """
    for block in blocks:
        if block.searched:
            continue
        seen = [sorted(trial.schedule_sha256 for trial in block.of(role)) for role in ROLES]
        if all(seen) and seen[0] != seen[1]:
            told = " and ".join(", ".join(one[:12] for one in hashes) for hashes in seen)
            yield f"the arms of block {block.index} replayed different schedules: {told}"
