"""Which blocks of a comparison count: complete, undisturbed ones, up to the last planned look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.carried import attainment, carried_rps
from bench.analysis.compare import ROLES, Block
from bench.analysis.verdict import LOOKS, last_look


@dataclass(frozen=True, slots=True)
class Selection:
    """The blocks to judge, what is wrong with others, and what was merely left out."""

    judged: tuple[Block, ...]
    broken: tuple[str, ...]
    notes: tuple[str, ...]


def select(blocks: Sequence[Block], disturbed: Mapping[int, Sequence[str]]) -> Selection:
    """Choose from blocks in order of their index.

    Blocks that were `disturbed`, by index with what disturbed them, are set aside: others were
    measured in their place. With a single arm every other block counts.

    Where too few are left for a verdict, all count, which makes the comparison invalid: its
    numbers are shown, and what disturbed them.

    A run that stops in the middle of a block leaves it out. A block that is not whole
    although later ones are, or that ran out of order, breaks the pairing. So does one
    whose search has found no load that an arm carries, or none that it does not.
    """
    compared = len({trial.role for block in blocks for trial in block.trials}) == len(ROLES)
    quiet = [block for block in blocks if block.index not in disturbed]
    complete = [block for block in quiet if block.complete or not compared]
    if disturbed and len(complete) < (LOOKS[0] if compared else 1):
        return select(blocks, {})
    rest = [block for block in quiet if block not in complete] if compared else []
    ended = complete[-1].index if complete else -1
    stopped = [block for block in rest if block.index > ended and _was_stopped(block)]
    look = (last_look(len(complete)) if compared else 0) or len(complete)
    present = {block.index for block in blocks}
    return Selection(
        judged=tuple(complete[:look]),
        broken=(
            *(f"block {index} is missing" for index in range(ended) if index not in present),
            *(_broken(block) for block in rest if block not in stopped),
        ),
        notes=(
            *(f"block {index} is set aside: {'; '.join(why)}" for index, why in disturbed.items()),
            *map(_stopped, stopped),
            *_unjudged(complete[look:]),
        ),
    )


def _was_stopped(block: Block) -> bool:
    if block.searched:
        return any(trial.cut_short or trial.dead_replicas for trial in block.trials)
    return len(block.trials) < 4


def _broken(block: Block) -> str:
    if block.searched:
        return f"block {block.index} found no load that separates: {_searched(block)}"
    ran, due = (" ".join(roles) for roles in (block.ran, block.due))
    return f"block {block.index} is unbalanced: it ran {ran}; due was {due}"


def _searched(block: Block) -> str:
    """What an arm met and missed in a search that did not end."""
    role = next(role for role in ROLES if carried_rps(block.of(role)) is None)
    tried = sorted(block.of(role), key=lambda trial: trial.offered_rps or 0.0)
    told = [f"{attainment(trial):.0%} at {trial.offered_rps or 0.0:.1f} req/s" for trial in tried]
    return f"{tried[0].arm} attained {', '.join(told)}" if told else f"{role} was not measured"


def _stopped(block: Block) -> str:
    if block.searched:
        return f"block {block.index} is left out: its search was stopped"
    return f"block {block.index} is left out: it has {len(block.trials)} of 4 trials"


def _unjudged(blocks: Sequence[Block]) -> Iterator[str]:
    if blocks:
        indexes = ", ".join(str(block.index) for block in blocks)
        planned = ", ".join(map(str, LOOKS))
        yield f"blocks left out: {indexes}; verdicts are given at {planned} complete blocks"
