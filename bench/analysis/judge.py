"""From the trials of one scenario to everything that is said about them.

The one way to judge: a live run and `bench compare` on stored trials give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.analysis.arm_checks import starved_replicas
from bench.analysis.bounds import DEFAULT_BOUNDS, ValidityBounds
from bench.analysis.compare import Block, BlockEffect, block_effects, group_blocks, ratio_of
from bench.analysis.conclude import conclude, median
from bench.analysis.judgement import Judgement, Summary
from bench.analysis.metrics import Metric, metric
from bench.analysis.selection import Selection, select
from bench.analysis.slo import slo_result
from bench.analysis.validity import arms, dead_replicas, invalid_reasons, too_few
from bench.errors import UserError
from bench.records import Comparison, Role, SloResult, Trial

__all__ = ["Judgement", "Summary", "judge"]

Effects = Mapping[Metric, Sequence[BlockEffect]]


def judge(trials: Sequence[Trial], bounds: ValidityBounds = DEFAULT_BOUNDS) -> Judgement:
    """Judge all trials of one scenario and its models, in any order.

    With one role only there is nothing to compare: its SLOs and values are given.
    Raises UserError when the trials do not belong together or name an unknown metric.
    """
    names = _arm_names(trials)
    first, facts = trials[0], trials[0].scenario
    metrics = [metric(name) for name in dict.fromkeys((facts.primary, *facts.metrics))]
    blocks = group_blocks(trials)
    chosen = select(blocks) if len(names) == 2 else Selection(blocks, (), ())
    effects = {one: block_effects(one, chosen.judged) for one in metrics}
    invalid = (
        *dead_replicas(blocks),
        *chosen.broken,
        *invalid_reasons(chosen.judged, metrics[0], bounds),
    )
    starved = (line for arm in arms(chosen.judged) for line in starved_replicas(arm))
    return Judgement(
        scenario=facts,
        models=first.models,
        environment=first.environment,
        control=names.get("control"),
        treatment=names.get("treatment"),
        blocks=len(chosen.judged),
        comparisons=_comparisons(first, names, effects, chosen.judged, invalid),
        effects=tuple(
            ratio_of(one.effect) for one in effects[metrics[0]] if one.effect is not None
        ),
        slos=tuple(_slo(first, names[role], role, chosen.judged) for role in names),
        summaries=_summaries(names, effects, chosen.judged),
        invalid_reasons=invalid,
        notes=(*chosen.notes, *starved),
    )


def _arm_names(trials: Sequence[Trial]) -> dict[Role, str]:
    """The arm in each role, control first. Raises UserError unless all belong together."""
    if not trials:
        raise UserError("there are no trials to judge; measure first")
    alike = [(one.run_id, one.environment, one.scenario, one.models) for one in trials]
    arms_seen = dict.fromkeys((one.role, one.arm) for one in trials)
    names = dict(sorted(arms_seen))
    if any(one != alike[0] for one in alike) or len(names) < len(arms_seen):
        one = trials[0]
        raise UserError(
            f"trials of {one.scenario.name} in run {one.run_id} do not belong together: they"
            " differ in run, environment, scenario, models or arms; judge each set on its own"
        )
    return names


def _comparisons(
    first: Trial,
    names: Mapping[Role, str],
    effects: Effects,
    blocks: Sequence[Block],
    invalid: tuple[str, ...],
) -> tuple[Comparison, ...]:
    if len(names) < 2:
        return ()
    return tuple(
        conclude(
            first.scenario,
            first.models,
            names,
            one,
            of_one,
            invalid=invalid,
            unsure=too_few(one, blocks),
        )
        for one, of_one in effects.items()
    )


def _slo(first: Trial, arm: str, role: Role, blocks: Sequence[Block]) -> SloResult:
    attainment = metric("slo_attainment")
    shares = [attainment.over(block.of(role)) for block in blocks]
    known = [share for share in shares if share is not None]
    return slo_result(first.scenario, first.models, arm, known)


def _summaries(
    names: Mapping[Role, str], effects: Effects, blocks: Sequence[Block]
) -> tuple[Summary, ...]:
    return tuple(
        Summary(
            role=role,
            arm=arm,
            metric=one.name,
            unit=one.unit,
            value=median([block.of(role) for block in of_one]),
            n=sum(one.n(block.of(role)) for block in blocks),
        )
        for role, arm in names.items()
        for one, of_one in effects.items()
    )
