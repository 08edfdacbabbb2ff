"""From the trials of one scenario, live or stored, to their judgement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bench.analysis.blocks import Block, BlockEffect, block_effects, group_blocks, select
from bench.analysis.checks import (
    DEFAULT_BOUNDS,
    ValidityBounds,
    changed_speed,
    disturbances,
    unknown_readings,
)
from bench.analysis.conclude import Evidence, held_back, slo_result
from bench.analysis.estimates import median, ratio_of, t_interval
from bench.analysis.factorial import Factorial, factorial, factors_of
from bench.analysis.judgement import Case, Comparison, Judgement, SloResult, Summary, Verdict
from bench.analysis.memory import memory_notes, memory_use
from bench.analysis.metrics import Metric, metric
from bench.analysis.pairs import pairs_of
from bench.analysis.server_side import server_notes, server_summary
from bench.analysis.validity import arm_notes, arms, dead_replicas, engine_starts, invalid_reasons
from bench.analysis.verdict import ALPHA, verdicts_at
from bench.errors import UserError
from bench.records import Role, Trial, fail_incomplete, role_number, slo_key

Effects = Mapping[Metric, Sequence[BlockEffect]]

_MOST_BLOCKS = 10_000
_LEAST_ALPHA = 1e-9


def cases(trials: Sequence[Trial], bounds: ValidityBounds = DEFAULT_BOUNDS) -> tuple[Case, ...]:
    """A case for each treatment, with its trials and the control's; one for a control alone.

    Takes all trials of one scenario and its models, in any order. Raises UserError like `judge`.
    """
    pairs = pairs_of(trials)
    among = trials if len(pairs) > 1 else ()
    return tuple(Case(judge(pair, bounds, among), pair) for pair in pairs)


def judge(
    trials: Sequence[Trial],
    bounds: ValidityBounds = DEFAULT_BOUNDS,
    among: Sequence[Trial] = (),
) -> Judgement:
    """Judge the trials of a pair of arms: of one scenario and its models, in any order.

    `among` are those of all arms if there are more: which blocks count depends on all. Trials of
    one role give its SLOs and values, and no comparison. Raises UserError when the trials do not
    belong together or name an unknown metric.
    """
    evidence = _evidence(trials, bounds, among)
    if len(evidence.arms) > 2:
        raise UserError(f"{len(evidence.arms)} arms are not a pair: judge each with the control")
    first, facts, blocks = trials[0], evidence.facts, evidence.blocks
    metrics = [metric(name) for name in dict.fromkeys((facts.primary, *facts.metrics))]
    effects = {one: block_effects(one, blocks) for one in metrics}
    servers = tuple(map(server_summary, arms(blocks)))
    memory = tuple(filter(None, map(memory_use, arms(blocks))))
    comparisons = tuple(_comparisons(evidence, effects))
    return Judgement(
        scenario=facts,
        models=first.models,
        round=first.round,
        shared=verdicts_at(facts.alpha),
        environment=first.environment,
        control=evidence.arms.get("control"),
        treatment=evidence.arms.get("treatment"),
        ratios={
            one.block: None if one.effect is None else ratio_of(one.effect)
            for one in effects[metrics[0]]
        },
        comparisons=comparisons,
        slos=tuple(_slos(evidence)),
        summaries=tuple(
            _summary(role, arm, one, [block.of(role) for block in of_one], blocks)
            for role, arm in evidence.arms.items()
            for one, of_one in effects.items()
        ),
        servers=servers,
        memory=memory,
        invalid_reasons=evidence.invalid,
        notes=(
            *evidence.notes,
            *held_back(comparisons),
            *(line for arm in arms(blocks) for line in arm_notes(arm)),
            *(line for one in servers for line in server_notes(one)),
            *(line for one in memory for line in memory_notes(one)),
            *_shared_notes(facts.alpha),
            *engine_starts(blocks),
            *changed_speed(among or trials),
            *unknown_readings(trials),
            *_load_notes(trials),
        ),
    )


def factorial_of(
    trials: Sequence[Trial], bounds: ValidityBounds = DEFAULT_BOUNDS
) -> Factorial | None:
    """The effects of the factors of a factorial run; None of any other run, or without a block.

    Takes all trials of one scenario and its models, in any order. Raises UserError like `judge`.
    """
    factors = factors_of(trials)
    if factors is None:
        return None
    evidence = _evidence(trials, bounds)
    if not evidence.blocks:
        return None
    facts = evidence.facts
    primary = metric(facts.primary)
    found = factorial(factors, evidence.blocks, primary, facts.alpha, evidence.invalid)
    return replace(found, notes=tuple(engine_starts(evidence.blocks)))


def is_decided(trials: Sequence[Trial], bounds: ValidityBounds = DEFAULT_BOUNDS) -> bool:
    """Whether the primary metric has a verdict on every treatment, and on every effect of a factor.

    False for one arm alone.
    """
    pairs = pairs_of(trials)
    among = trials if len(pairs) > 1 else ()
    if not all(_pair_is_decided(pair, bounds, among) for pair in pairs):
        return False
    effects = factorial_of(trials, bounds)
    return effects is None or effects.decided


def _pair_is_decided(
    trials: Sequence[Trial], bounds: ValidityBounds, among: Sequence[Trial]
) -> bool:
    evidence = _evidence(trials, bounds, among)
    if len(evidence.arms) < 2:
        return False
    primary = metric(evidence.facts.primary)
    found = evidence.compare(primary, block_effects(primary, evidence.blocks))
    return found.verdict is not Verdict.INCONCLUSIVE


def _evidence(
    trials: Sequence[Trial], bounds: ValidityBounds, among: Sequence[Trial] = ()
) -> Evidence:
    """Choose the blocks that count. Raises UserError when trials do not belong together."""
    names = _arm_names(trials)
    _check(among or trials)
    facts = trials[0].scenario
    every = group_blocks(map(_with_incomplete_failed, among or trials))
    disturbed = {one.index: why for one in every if (why := disturbances(one.trials, bounds))}
    chosen = select(every, disturbed)
    indexes = {block.index for block in chosen.judged}
    blocks = chosen.judged
    if among:
        grouped = group_blocks(map(_with_incomplete_failed, trials))
        blocks = tuple(block for block in grouped if block.index in indexes)
    return Evidence(
        facts=facts,
        models=trials[0].models,
        arms=names,
        blocks=blocks,
        invalid=(
            *dead_replicas(every),
            *chosen.broken,
            *invalid_reasons(blocks, metric(facts.primary), bounds, chosen.judged),
        ),
        notes=chosen.notes,
    )


def _with_incomplete_failed(trial: Trial) -> Trial:
    """Needed for trials that were stored before incomplete answers counted as failed."""
    samples, bypassed = (
        fail_incomplete(sent, exact=trial.exact_answers) for sent in (trial.samples, trial.bypassed)
    )
    return replace(trial, samples=samples, bypassed=bypassed)


def _arm_names(trials: Sequence[Trial]) -> dict[Role, str]:
    """The arm in each role, control first. Raises UserError unless all belong together."""
    if not trials:
        raise UserError("there are no trials to judge; measure first")
    alike = [(one.run_id, one.environment, one.scenario, one.models, one.round) for one in trials]
    arms_seen = dict.fromkeys((one.role, one.arm) for one in trials)
    names = dict(sorted(arms_seen, key=lambda seen: role_number(seen[0])))
    if any(one != alike[0] for one in alike) or len(names) < len(arms_seen):
        one = trials[0]
        raise UserError(
            f"trials of {one.scenario.name} in run {one.run_id} do not belong together: they"
            " differ in run, environment, scenario, models, round or arms; judge each set alone"
        )
    return names


def _check(trials: Sequence[Trial]) -> None:
    """Raise UserError for what no run has stored: its file has been changed."""
    first, slos = trials[0], trials[0].scenario.slos
    objectives = [
        slo_key(model, of) for model in first.models for of in first.scenario.tenants or [""]
    ]
    sent = {(sample.model, sample.tenant) for trial in trials for sample in trial.samples}
    objectives += [model for model, tenant in sent if slo_key(model, tenant) not in slos]
    wrong = [f"objectives of {name!r} are missing" for name in objectives if name not in slos]
    wrong += [f"block {one.block}" for one in trials if not 0 <= one.block < _MOST_BLOCKS]
    if not _LEAST_ALPHA <= first.scenario.alpha < 1:
        wrong.append(f"the error rate is {first.scenario.alpha:g}")
    if wrong:
        raise UserError(
            f"trials of {first.scenario.name} in run {first.run_id} cannot be judged: {wrong[0]};"
            " measure again"
        )


def _shared_notes(alpha: float) -> Iterator[str]:
    """A line where several verdicts share the error rate."""
    if (verdicts := verdicts_at(alpha)) > 1:
        yield (
            f"{verdicts} comparisons share the error rate of {100 * ALPHA:g} %:"
            f" {100 * alpha:.2g} % each"
        )


def _load_notes(trials: Sequence[Trial]) -> Iterator[str]:
    """A line for each note of a driver, and for arms whose connections are not kept."""
    noted = {(trial.driver.name, note): None for trial in trials for note in trial.driver.notes}
    yield from (f"driver {name}: {note}" for name, note in noted)
    opening = dict.fromkeys(one.arm for one in trials if one.connections == "per-request")
    yield from (f"arm {arm}: each request opens a connection of its own" for arm in opening)


def _comparisons(evidence: Evidence, effects: Effects) -> Iterator[Comparison]:
    """Each metric over all requests; the primary one also for each of several models."""
    if len(evidence.arms) < 2:
        return
    for one, of_one in effects.items():
        yield evidence.compare(one, of_one)
        if one.name == evidence.facts.primary:
            for model in evidence.models if len(evidence.models) > 1 else ():
                yield _compare_part(one, evidence.part(model=model))
            for tenant in evidence.facts.tenants if not one.tenant else ():
                yield replace(_compare_part(one, evidence.part(tenant=tenant)), tenant=tenant)


def _compare_part(primary: Metric, part: Evidence) -> Comparison:
    """The primary metric of a part of the requests. It never gates."""
    return replace(part.compare(primary, block_effects(primary, part.blocks)), primary=False)


def _slos(evidence: Evidence) -> Iterator[SloResult]:
    """The attainment of each arm, model and tenant."""
    # In a search, attainment is what the load is searched for.
    if evidence.facts.search_step is not None:
        return
    attainment = metric("slo_attainment")
    for role, arm in evidence.arms.items():
        for model in evidence.models:
            for tenant in evidence.facts.tenants or ("",):
                sent = evidence.part(model=model, tenant=tenant).blocks
                shares = [attainment.over(block.of(role)) for block in sent]
                known = [share for share in shares if share is not None]
                yield slo_result(evidence.facts, model, role, arm, known, tenant)


def _summary(
    role: Role, arm: str, one: Metric, values: Sequence[float | None], blocks: Sequence[Block]
) -> Summary:
    interval = None
    if blocks and one.across is not None:
        logs = [math.log(value) for value in values if value]
        interval = t_interval(logs, blocks[0].trials[0].scenario.alpha)
    return Summary(
        role=role,
        arm=arm,
        metric=one.name,
        unit=one.unit,
        value=median(values),
        n=sum(one.n(block.of(role)) for block in blocks),
        low=math.exp(interval.low) if interval else None,
        high=math.exp(interval.high) if interval else None,
    )
