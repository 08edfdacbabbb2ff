"""What each of two factors gives, and whether one depends on the other.

Four arms have the levels of two factors in all combinations. Of each block the logarithms of the
four values give every effect, so that trials of a block are compared with each other alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.analysis.blocks import Block
from bench.analysis.estimates import median
from bench.analysis.judgement import Verdict
from bench.analysis.metrics import Metric
from bench.analysis.verdict import decide
from bench.records import Direction, Role, Trial

Cell = tuple[int, int]
"""An arm by the place of its level of each factor: 0 for the first one, 1 for the second."""

CELLS: tuple[Cell, ...] = ((0, 0), (0, 1), (1, 0), (1, 1))

Logs = Mapping[Cell, float | None]
"""The logarithms of the four values of a block."""


class Interaction(StrEnum):
    """Whether the effect of one factor depends on the level of the other."""

    SHOWN = "shown"  # the interval excludes 1, and the difference is at least 5 %
    EXCLUDED = "excluded"  # the interval lies within ±10 %
    UNDECIDED = "undecided"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Factor:
    """What differs between arms: its name, and the levels that it has, the control's first."""

    name: str
    levels: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Effect:
    """How many times as high the metric is at a factor's second level, with an interval.

    `at` is the level of the other factor; empty for the main effect, which is the mean over both.
    The interaction has the names of both factors: it is the effect of one at the second level of
    the other / that at its first level. Without a ratio there are `reasons`.
    """

    factor: str
    at: str
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict | Interaction
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Factorial:
    """The effects of two factors on the primary metric of one scenario, for some models.

    `arms` and `values` (medians over blocks) are those of `CELLS`. `main` has an effect for each
    factor, `simple` those of the first factor at both levels of the second, then those of the
    second. `alpha` is the two-sided error rate of each. With any of `invalid_reasons` nothing is
    concluded; `notes` are further lines for people.
    """

    scenario: str
    models: tuple[str, ...]
    round: int
    factors: tuple[Factor, Factor]
    arms: tuple[str, ...]
    metric: str
    unit: str
    direction: Direction
    values: tuple[float | None, ...]
    blocks: int
    alpha: float
    main: tuple[Effect, Effect]
    interaction: Effect
    simple: tuple[Effect, Effect, Effect, Effect]
    invalid_reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def decided(self) -> bool:
        """Whether there is a verdict on both main effects and on the interaction."""
        open_ones = (Verdict.INCONCLUSIVE, Interaction.UNDECIDED)
        return all(one.verdict not in open_ones for one in (*self.main, self.interaction))

    @property
    def separable(self) -> bool:
        """Whether a main effect holds at each level of the other factor."""
        return self.interaction.verdict is Interaction.EXCLUDED


def factors_of(trials: Sequence[Trial]) -> tuple[Factor, Factor] | None:
    """The factors of the arms that were measured; None unless two have two levels each."""
    levels: dict[str, dict[str, None]] = {}
    for one in sorted(trials, key=lambda trial: trial.role):
        for name, level in one.levels.items():
            levels.setdefault(name, {})[level] = None
    roles = {one.role for one in trials if one.levels}
    found = [Factor(name, (first, second)) for name, (first, second) in _pairs(levels)]
    if len(found) != len(levels) or len(found) != 2 or len(roles) != len(CELLS):
        return None
    return found[0], found[1]


def _pairs(levels: Mapping[str, Mapping[str, None]]) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, seen in levels.items():
        if len(seen) == 2:
            first, second = seen
            yield name, (first, second)


@dataclass(frozen=True, slots=True)
class Effects:
    """The main effects, the interaction, and the simple effects, in the order of `Factorial`."""

    main: tuple[Effect, Effect]
    interaction: Effect
    simple: tuple[Effect, Effect, Effect, Effect]


def effects(
    factors: tuple[Factor, Factor],
    logs: Sequence[Logs],
    direction: Direction,
    alpha: float,
    *,
    invalid: bool = False,
) -> Effects:
    """The effects over blocks, of which `logs` has the logarithms of the four values.

    A value is None where it is not finite. `alpha` is the two-sided error rate of each effect.
    If `invalid`, the numbers are given, and no verdict.
    """

    def effect(factor: str, at: str, weights: Mapping[Cell, float]) -> Effect:
        decision = decide([_contrast(one, weights) for one in logs], direction, alpha)
        seen = Verdict.INVALID if invalid else decision.verdict
        verdict = _INTERACTIONS[seen] if weights is _BOTH else seen
        return Effect(
            factor, at, decision.ratio, decision.low, decision.high, verdict, decision.reasons
        )

    one, other = factors
    return Effects(
        main=(effect(one.name, "", _main(0)), effect(other.name, "", _main(1))),
        interaction=effect(f"{one.name} x {other.name}", "", _BOTH),
        simple=(
            effect(one.name, other.levels[0], _simple(0, 0)),
            effect(one.name, other.levels[1], _simple(0, 1)),
            effect(other.name, one.levels[0], _simple(1, 0)),
            effect(other.name, one.levels[1], _simple(1, 1)),
        ),
    )


def factorial(
    factors: tuple[Factor, Factor],
    blocks: Sequence[Block],
    metric: Metric,
    alpha: float,
    invalid_reasons: tuple[str, ...],
) -> Factorial:
    """The effects over `blocks`, which have the trials of all four arms."""
    first = blocks[0].trials[0]
    arms = _arms(factors, blocks)
    values = {
        cell: [metric.over(block.of(role)) for block in blocks] for cell, (role, _) in arms.items()
    }
    logs = [{cell: _log(values[cell][place]) for cell in CELLS} for place in range(len(blocks))]
    invalid = bool(invalid_reasons)
    found = effects(factors, logs, metric.direction, alpha, invalid=invalid)
    return Factorial(
        scenario=first.scenario.name,
        models=first.models,
        round=first.round,
        factors=factors,
        arms=tuple(name for _, name in arms.values()),
        metric=metric.name,
        unit=metric.unit,
        direction=metric.direction,
        values=tuple(median(values[cell]) for cell in CELLS),
        blocks=len(blocks),
        alpha=alpha,
        main=found.main,
        interaction=found.interaction,
        simple=found.simple,
        invalid_reasons=invalid_reasons,
    )


_INTERACTIONS: Mapping[Verdict, Interaction] = {
    Verdict.BETTER: Interaction.SHOWN,
    Verdict.WORSE: Interaction.SHOWN,
    Verdict.EQUIVALENT: Interaction.EXCLUDED,
    Verdict.INCONCLUSIVE: Interaction.UNDECIDED,
    Verdict.INVALID: Interaction.INVALID,
}
_BOTH: Mapping[Cell, float] = {(0, 0): 1.0, (0, 1): -1.0, (1, 0): -1.0, (1, 1): 1.0}


def _main(place: int) -> Mapping[Cell, float]:
    """The mean of the factor's effects at both levels of the other."""
    return {cell: 0.5 if cell[place] else -0.5 for cell in CELLS}


def _simple(place: int, at: int) -> Mapping[Cell, float]:
    """The factor's effect at one level of the other."""
    return {cell: 1.0 if cell[place] else -1.0 for cell in CELLS if cell[1 - place] == at}


def _contrast(logs: Logs, weights: Mapping[Cell, float]) -> float | None:
    """The weighted sum, rounded once, so that a factor's levels can be swapped exactly."""
    known = [(logs[cell], weight) for cell, weight in weights.items()]
    terms = [log * weight for log, weight in known if log is not None]
    return math.fsum(terms) if len(terms) == len(known) else None


def _log(value: float | None) -> float | None:
    return math.log(value) if value is not None and 0 < value < math.inf else None


def _arms(factors: tuple[Factor, Factor], blocks: Sequence[Block]) -> dict[Cell, tuple[Role, str]]:
    """The role and the name of the arm in each cell, in the order of `CELLS`."""
    found: dict[Cell, tuple[Role, str]] = {}
    for block in blocks:
        for one in block.trials:
            places = [factor.levels.index(one.levels[factor.name]) for factor in factors]
            found[places[0], places[1]] = (one.role, one.arm)
    return {cell: found[cell] for cell in CELLS}
