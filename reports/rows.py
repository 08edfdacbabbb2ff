"""The rows of the comparison table, the same in the terminal and on the page."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from bench.analysis.judgement import Judgement, Summary
from bench.records import Comparison, SloOutcome, SloResult, Verdict
from reports import wording


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table in words; `outcome` decides its colour, None has none.

    `interval` is (low, ratio, high) where the comparison has all three.
    """

    label: str
    primary: bool
    control: str
    treatment: str
    ratio: str
    outcome: Verdict | SloOutcome | None
    interval: tuple[float, float, float] | None = None


def rows_of(judgement: Judgement) -> tuple[Row, ...]:
    """A row for each metric, then one for each model's SLO where one is set."""
    if judgement.comparisons:
        metrics = [_comparison(one, judgement.models) for one in judgement.comparisons]
    else:
        by_metric = itertools.groupby(judgement.summaries, key=lambda one: one.metric)
        metrics = [_values(name, judgement, summaries) for name, summaries in by_metric]
    return (*metrics, *_slo(judgement))


def notes_of(judgement: Judgement) -> tuple[str, ...]:
    """The judgement's notes, and why a metric has no verdict where others have one."""
    if judgement.invalid_reasons:
        return judgement.notes
    metrics: dict[str, list[str]] = {}
    for one in judgement.comparisons:
        for reason in one.reasons:
            of_part = "" if _is_whole(one, judgement.models) else f" of {_names(one)}"
            metrics.setdefault(reason, []).append(wording.metric(one.metric) + of_part)
    everywhere = len(judgement.comparisons)
    of_metrics = (
        f"{', '.join(names) if len(names) < everywhere else 'every metric'}: {reason}"
        for reason, names in metrics.items()
    )
    return (*judgement.notes, *of_metrics)


def _comparison(comparison: Comparison, models: tuple[str, ...]) -> Row:
    whole = _is_whole(comparison, models)
    return Row(
        # A part of the requests stands below the metric of them all.
        label=wording.metric(comparison.metric) if whole else f"  of {_names(comparison)}",
        primary=comparison.primary,
        control=wording.quantity(comparison.control_value, comparison.unit),
        treatment=wording.quantity(comparison.treatment_value, comparison.unit),
        ratio=wording.ratio(comparison),
        outcome=comparison.verdict,
        interval=_interval(comparison),
    )


def _interval(comparison: Comparison) -> tuple[float, float, float] | None:
    if comparison.low is None or comparison.ratio is None or comparison.high is None:
        return None
    return comparison.low, comparison.ratio, comparison.high


def _values(name: str, judgement: Judgement, summaries: Iterable[Summary]) -> Row:
    """A metric of an arm that was run alone."""
    values = {one.role: wording.quantity(one.value, one.unit) for one in summaries}
    return Row(
        label=wording.metric(name),
        primary=name == judgement.scenario.primary,
        control=values.get("control", ""),
        treatment=values.get("treatment", ""),
        ratio="",
        outcome=None,
    )


def _slo(judgement: Judgement) -> Iterable[Row]:
    control, treatment = judgement.slos_of("control"), judgement.slos_of("treatment")
    for of_model in itertools.zip_longest(control, treatment):
        yield from _attained(*of_model, single=len(judgement.models) == 1)


def _attained(
    control: SloResult | None, treatment: SloResult | None, *, single: bool
) -> Iterable[Row]:
    # The treatment's outcome is the one that gates.
    gating = treatment or control
    if gating is None or gating.outcome is SloOutcome.UNSET:
        return
    yield Row(
        label=", ".join(filter(None, ("SLO", "" if single else gating.model, gating.tenant)))
        if gating.tenant or not single
        else "SLO attainment",
        primary=False,
        control=_attainment(control),
        treatment=_attainment(treatment),
        ratio=f"target {wording.target(gating.target)}",
        outcome=gating.outcome,
    )


def _is_whole(comparison: Comparison, models: tuple[str, ...]) -> bool:
    return comparison.models == models and not comparison.tenant


def _names(comparison: Comparison) -> str:
    """Whose requests a part of them is."""
    return comparison.tenant or ", ".join(comparison.models)


def _attainment(result: SloResult | None) -> str:
    return "" if result is None else wording.percent(result.attainment)
