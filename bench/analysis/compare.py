"""Blocks of paired trials and what each says of treatment against control."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bench.analysis.carried import carried_rps
from bench.analysis.metrics import Metric
from bench.records import Role, Sample, Trial

ROLES: tuple[Role, Role] = ("control", "treatment")


@dataclass(frozen=True, slots=True)
class Block:
    """The trials of one block, by position. Both arms replayed the same schedules."""

    index: int
    trials: tuple[Trial, ...]

    @property
    def ran(self) -> tuple[Role, ...]:
        return tuple(trial.role for trial in self.trials)

    @property
    def searched(self) -> bool:
        """Whether the load was searched for, so that the trials differ in it."""
        return self.trials[0].scenario.search_step is not None

    @property
    def complete(self) -> bool:
        """Whether every trial of a comparison is there, in the order that was due.

        A search has no order that could be due: it is complete once it has found the load.
        """
        if self.searched:
            return all(carried_rps(self.of(role)) is not None for role in ROLES)
        positions = tuple(trial.position for trial in self.trials)
        return self.ran == self.due and positions == (0, 1, 2, 3)

    @property
    def due(self) -> tuple[Role, ...]:
        """The order that was due: one that was drawn before, or that of the block's index."""
        return self.trials[0].due or order(self.index)

    def of(self, role: Role) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.role == role)

    def to(self, model: str) -> Block:
        """The block with only the requests that were sent to `model`."""
        return self._only(lambda sample: sample.model == model)

    def of_tenant(self, tenant: str) -> Block:
        """The block with only the requests that were sent for `tenant`."""
        return self._only(lambda sample: sample.tenant == tenant)

    def _only(self, kept: Callable[[Sample], bool]) -> Block:
        return replace(
            self,
            trials=tuple(
                replace(
                    trial,
                    samples=tuple(filter(kept, trial.samples)),
                    bypassed=tuple(filter(kept, trial.bypassed)),
                )
                for trial in self.trials
            ),
        )


@dataclass(frozen=True, slots=True)
class BlockEffect:
    """One block's value per arm and `effect` = ln(treatment / control).

    `effect` is None where the values have no finite ratio.
    """

    block: int
    control: float | None
    treatment: float | None
    effect: float | None

    def of(self, role: Role) -> float | None:
        return self.control if role == "control" else self.treatment


def order(block: int) -> tuple[Role, Role, Role, Role]:
    """Even blocks run ABBA, odd ones BAAB: a linear drift cancels within each."""
    if block % 2 == 0:
        return ("control", "treatment", "treatment", "control")
    return ("treatment", "control", "control", "treatment")


def group_blocks(trials: Iterable[Trial]) -> tuple[Block, ...]:
    """The trials by block and position, whatever order they come in."""
    blocks: dict[int, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: (trial.block, trial.position, trial.role)):
        blocks.setdefault(trial.block, []).append(trial)
    return tuple(Block(index, tuple(members)) for index, members in blocks.items())


def block_effects(metric: Metric, blocks: Sequence[Block]) -> tuple[BlockEffect, ...]:
    """What each block says; the trials of an arm in a block are pooled."""
    return tuple(_block_effect(metric, block) for block in blocks)


def log_ratio(treatment: float | None, control: float | None) -> float | None:
    """ln(treatment / control); None unless both are finite and above zero.

    Zero and infinity carry no size of an effect: an arm that failed is not infinitely
    slower, and none is infinitely better.
    """
    if treatment is None or control is None:
        return None
    if not (0 < treatment < math.inf and 0 < control < math.inf):
        return None
    return math.log(treatment) - math.log(control)


def ratio_of(effect: float) -> float:
    """treatment / control of an effect; +inf where a float cannot hold it."""
    try:
        return math.exp(effect)
    except OverflowError:
        return math.inf


def _block_effect(metric: Metric, block: Block) -> BlockEffect:
    control = metric.over(block.of("control"))
    treatment = metric.over(block.of("treatment"))
    return BlockEffect(block.index, control, treatment, log_ratio(treatment, control))
