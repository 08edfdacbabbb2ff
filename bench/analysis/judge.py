"""From the trials of one scenario to everything that is said about them.

The one way to judge: a live run and `bench compare` on stored trials give the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bench.analysis.blocks import Block, BlockEffect, block_effects, group_blocks, ratio_of, select
from bench.analysis.checks import (
    DEFAULT_BOUNDS,
    ValidityBounds,
    changed_speed,
    disturbances,
    unknown_readings,
)
from bench.analysis.conclude import conclude, median, slo_result
from bench.analysis.estimates import t_interval
from bench.analysis.judgement import Judgement, Summary
from bench.analysis.metrics import Metric, metric
from bench.analysis.server_side import server_notes, server_summary
from bench.analysis.validity import (
    arms,
    dead_replicas,
    failures,
    invalid_reasons,
    starved_replicas,
    too_few,
    unattributed,
    unlike_failures,
)
from bench.completeness import fail_incomplete
from bench.errors import UserError
from bench.records import Comparison, Role, ScenarioFacts, SloResult, Trial

__all__ = ["Judgement", "Summary", "judge"]

Effects = Mapping[Metric, Sequence[BlockEffect]]


def judge(trials: Sequence[Trial], bounds: ValidityBounds = DEFAULT_BOUNDS) -> Judgement:
    """Judge all trials of one scenario and its models, in any order.

    With one role only there is nothing to compare: its SLOs and values are given.
    Raises UserError when the trials do not belong together or name an unknown metric.
    """
    names = _arm_names(trials)
    trials = list(map(_with_incomplete_failed, trials))
    first, facts = trials[0], trials[0].scenario
    metrics = [metric(name) for name in dict.fromkeys((facts.primary, *facts.metrics))]
    blocks = group_blocks(trials)
    disturbed = {one.index: why for one in blocks if (why := disturbances(one.trials, bounds))}
    chosen = select(blocks, disturbed)
    effects = {one: block_effects(one, chosen.judged) for one in metrics}
    invalid = (
        *dead_replicas(blocks),
        *chosen.broken,
        *invalid_reasons(chosen.judged, metrics[0], bounds),
    )
    servers = tuple(map(server_summary, arms(chosen.judged)))
    noted = (
        *(
            line
            for arm in arms(chosen.judged)
            for lines in (failures(arm), starved_replicas(arm), unattributed(arm))
            for line in lines
        ),
        *(line for one in servers for line in server_notes(one)),
    )
    return Judgement(
        scenario=facts,
        models=first.models,
        round=first.round,
        environment=first.environment,
        control=names.get("control"),
        treatment=names.get("treatment"),
        blocks=len(chosen.judged),
        comparisons=tuple(_comparisons(first, names, effects, chosen.judged, invalid)),
        effects=tuple(
            ratio_of(one.effect) for one in effects[metrics[0]] if one.effect is not None
        ),
        slos=tuple(
            _slo(facts, model, tenant, role, arm, chosen.judged)
            # At the loads of a search, how many met their objectives is the question itself.
            for role, arm in (names if facts.search_step is None else {}).items()
            for model in first.models
            for tenant in facts.tenants or ("",)
        ),
        summaries=_summaries(names, effects, chosen.judged),
        servers=servers,
        invalid_reasons=invalid,
        notes=(
            *chosen.notes,
            *noted,
            *changed_speed(trials),
            *unknown_readings(trials),
            *_load_notes(trials),
        ),
    )


def _with_incomplete_failed(trial: Trial) -> Trial:
    """Trials that were stored before incomplete answers counted as failed are judged alike."""
    return replace(
        trial,
        samples=fail_incomplete(trial.samples),
        bypassed=fail_incomplete(trial.bypassed),
    )


def _arm_names(trials: Sequence[Trial]) -> dict[Role, str]:
    """The arm in each role, control first. Raises UserError unless all belong together."""
    if not trials:
        raise UserError("there are no trials to judge; measure first")
    alike = [(one.run_id, one.environment, one.scenario, one.models, one.round) for one in trials]
    arms_seen = dict.fromkeys((one.role, one.arm) for one in trials)
    names = dict(sorted(arms_seen))
    if any(one != alike[0] for one in alike) or len(names) < len(arms_seen):
        one = trials[0]
        raise UserError(
            f"trials of {one.scenario.name} in run {one.run_id} do not belong together: they"
            " differ in run, environment, scenario, models, round or arms; judge each set apart"
        )
    return names


def _load_notes(trials: Sequence[Trial]) -> Iterator[str]:
    """What the load does differently from what is usual here, each once."""
    noted = {(trial.driver.name, note): None for trial in trials for note in trial.driver.notes}
    yield from (f"driver {name}: {note}" for name, note in noted)
    opening = dict.fromkeys(one.arm for one in trials if one.connections == "per-request")
    yield from (f"arm {arm}: each request opens a connection of its own" for arm in opening)


def _comparisons(
    first: Trial,
    names: Mapping[Role, str],
    effects: Effects,
    blocks: Sequence[Block],
    invalid: tuple[str, ...],
) -> Iterator[Comparison]:
    """Each metric over all requests; the primary one also for each of several models."""
    if len(names) < 2:
        return
    facts, models = first.scenario, first.models
    for one, of_one in effects.items():
        unsure = too_few(one, blocks)
        found = conclude(facts, models, names, one, of_one, invalid=invalid, unsure=unsure)
        yield _with_failures(found, blocks) if found.primary else found
        if one.name == facts.primary and len(models) > 1:
            for model in models:
                sent = [block.to(model) for block in blocks]
                yield _of_part(facts, (model,), names, one, sent, invalid)
        if one.name == facts.primary and not one.tenant:
            for tenant in facts.tenants:
                sent = [block.of_tenant(tenant) for block in blocks]
                part = _of_part(facts, models, names, one, sent, invalid)
                yield replace(part, tenant=tenant)


def _of_part(
    facts: ScenarioFacts,
    models: tuple[str, ...],
    names: Mapping[Role, str],
    primary: Metric,
    sent: Sequence[Block],
    invalid: tuple[str, ...],
) -> Comparison:
    """The primary metric of a part of the requests: shown beside the one that gates."""
    effects, unsure = block_effects(primary, sent), too_few(primary, sent)
    found = conclude(facts, models, names, primary, effects, invalid=invalid, unsure=unsure)
    return replace(_with_failures(found, sent), primary=False)


def _with_failures(found: Comparison, blocks: Sequence[Block]) -> Comparison:
    unlike = unlike_failures(tuple(arms(blocks)))
    return replace(found, reasons=(*found.reasons, *unlike))


def _slo(
    facts: ScenarioFacts, model: str, tenant: str, role: Role, arm: str, blocks: Sequence[Block]
) -> SloResult:
    attainment = metric("slo_attainment")
    sent = [block.to(model) for block in blocks]
    if tenant:
        sent = [block.of_tenant(tenant) for block in sent]
    shares = [attainment.over(block.of(role)) for block in sent]
    known = [share for share in shares if share is not None]
    return slo_result(facts, model, role, arm, known, tenant)


def _summaries(
    names: Mapping[Role, str], effects: Effects, blocks: Sequence[Block]
) -> tuple[Summary, ...]:
    return tuple(
        _summary(role, arm, one, [block.of(role) for block in of_one], blocks)
        for role, arm in names.items()
        for one, of_one in effects.items()
    )


def _summary(
    role: Role, arm: str, one: Metric, values: Sequence[float | None], blocks: Sequence[Block]
) -> Summary:
    summary = Summary(
        role=role,
        arm=arm,
        metric=one.name,
        unit=one.unit,
        value=median(values),
        n=sum(one.n(block.of(role)) for block in blocks),
    )
    logs = [math.log(value) for value in values if value]
    interval = t_interval(logs, blocks[0].trials[0].scenario.alpha) if blocks else None
    if one.across is None or interval is None:
        return summary
    return replace(summary, low=math.exp(interval.low), high=math.exp(interval.high))
