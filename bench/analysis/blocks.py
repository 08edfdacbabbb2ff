"""Blocks of paired trials: the effect of each, and which blocks count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.analysis.estimates import log_ratio
from bench.analysis.metrics import Metric, part_of
from bench.analysis.rates import attainment, carried_rps
from bench.analysis.verdict import LOOKS, last_look
from bench.records import Role, Trial, role_number

ROLES: tuple[Role, Role] = ("control", "treatment")


@dataclass(frozen=True, slots=True)
class Block:
    """The trials of one block, by position. All arms replayed the same schedules."""

    index: int
    trials: tuple[Trial, ...]

    @property
    def ran(self) -> tuple[Role, ...]:
        """The roles in the order in which they were run."""
        return tuple(trial.role for trial in self.trials)

    @property
    def due(self) -> tuple[Role, ...]:
        """The planned order of roles: the one that was stored, else that of the block's index."""
        return self.trials[0].due or order(self.index)

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that were planned, control first."""
        return tuple(sorted(set(self.due), key=role_number))

    @property
    def searched(self) -> bool:
        """Whether the load was searched for, so that the trials differ in it."""
        return self.trials[0].scenario.search_step is not None

    @property
    def complete(self) -> bool:
        """Whether every trial of a comparison is there, in the planned order.

        A search has no planned order: it is complete once it has found the load of each arm.
        """
        if self.searched:
            return all(carried_rps(self.of(role)) is not None for role in self.roles)
        positions = [trial.position for trial in self.trials]
        return self.ran == self.due and positions == list(range(len(self.due)))

    def of(self, role: Role) -> tuple[Trial, ...]:
        """The trials of the arm in that role."""
        return tuple(trial for trial in self.trials if trial.role == role)

    def part(self, *, model: str = "", tenant: str = "") -> Block:
        """The block with only the requests to `model`, or of `tenant`, or both; "" takes all."""
        trials = (part_of(trial, model=model, tenant=tenant) for trial in self.trials)
        return replace(self, trials=tuple(trials))


@dataclass(frozen=True, slots=True)
class BlockEffect:
    """A value per arm, and `effect` = ln(treatment / control); None where that is not finite."""

    block: int
    control: float | None
    treatment: float | None
    effect: float | None

    def of(self, role: Role) -> float | None:
        """The value of the arm in that role."""
        return self.control if role == "control" else self.treatment


@dataclass(frozen=True, slots=True)
class Selection:
    """The blocks to judge, what is wrong with others, and notes on those left out."""

    judged: tuple[Block, ...]
    broken: tuple[str, ...]
    notes: tuple[str, ...]


def order(block: int, roles: Sequence[Role] = ROLES) -> tuple[Role, ...]:
    """A row of Williams' Latin square forward, then backward: a linear drift cancels within each.

    Of two arms that is ABBA, then BAAB. In as many blocks as there are arms, each arm stands at
    each place equally often, and each arm follows each other one equally often.
    """
    arms = len(roles)
    first = ((place + 1) // 2 if place % 2 else -(place // 2) for place in range(arms))
    row = tuple(roles[(arm + block) % arms] for arm in first)
    return row + row[::-1]


def group_blocks(trials: Iterable[Trial]) -> tuple[Block, ...]:
    """The trials, in any order, as blocks: sorted by index, and by position in each."""
    blocks: dict[int, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: (trial.block, trial.position, trial.role)):
        blocks.setdefault(trial.block, []).append(trial)
    return tuple(Block(index, tuple(members)) for index, members in blocks.items())


def block_effects(metric: Metric, blocks: Sequence[Block]) -> tuple[BlockEffect, ...]:
    """The effect of each block; the trials of an arm in a block are pooled."""
    effects = []
    for block in blocks:
        control, treatment = (metric.over(block.of(role)) for role in ROLES)
        effects.append(BlockEffect(block.index, control, treatment, log_ratio(treatment, control)))
    return tuple(effects)


def select(blocks: Sequence[Block], disturbed: Mapping[int, Sequence[str]]) -> Selection:
    """Choose from blocks in order of their index: complete ones, up to the last planned look.

    `disturbed` blocks, by index with the reasons, are set aside for all arms; of a single arm all
    others count. Where too few are left for a verdict, all count, which makes the comparison
    invalid: its numbers are shown with the reasons.

    A block in whose middle the run has stopped is left out. The pairing is broken by a block
    that is not complete although later ones are, that ran in another order, or whose search has
    found no load that an arm carries, or none that it does not carry.
    """
    compared = len({trial.role for block in blocks for trial in block.trials}) > 1
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
    return len(block.trials) < len(block.due)


def _broken(block: Block) -> str:
    if block.searched:
        return f"block {block.index} found no load that separates: {_searched(block)}"
    ran, due = (" ".join(roles) for roles in (block.ran, block.due))
    return f"block {block.index} is unbalanced: it ran {ran}; due was {due}"


def _searched(block: Block) -> str:
    """The loads at which an arm met and missed its target in a search that did not end."""
    role = next(role for role in block.roles if carried_rps(block.of(role)) is None)
    tried = sorted(block.of(role), key=lambda trial: trial.offered_rps or 0.0)
    if not tried:
        return f"{role} was not measured"
    shares = (f"{attainment(one):.0%} at {one.offered_rps or 0.0:.1f} req/s" for one in tried)
    return f"{tried[0].arm} attained {', '.join(shares)}"


def _stopped(block: Block) -> str:
    if block.searched:
        return f"block {block.index} is left out: its search was stopped"
    return f"block {block.index} is left out: it has {len(block.trials)} of {len(block.due)} trials"


def _unjudged(blocks: Sequence[Block]) -> Iterator[str]:
    planned = ", ".join(map(str, LOOKS))
    for block in blocks:
        yield f"block {block.index} is left out: verdicts are given at {planned} complete blocks"
