"""The rows of the comparison table, the same in the terminal and on the page."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bench.analysis.judgement import Judgement, Summary
from bench.analysis.server_side import ServerSummary
from bench.records import Comparison, Role, SloOutcome, SloResult, Verdict
from reports import wording
from reports.case import arms_of


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


Figure = Callable[[ServerSummary], str]

# Short names for a narrow table, long ones for a page.
FIGURES: Mapping[tuple[str, str], Figure] = {
    ("imbalance", "Imbalance (busiest replica / mean)"): lambda one: wording.plain(one.imbalance),
    ("queue mean", "Queue depth of a replica, mean"): lambda one: wording.plain(
        one.total.waiting_mean
    ),
    ("queue max", "Queue depth of a replica, max"): lambda one: wording.whole(
        one.total.waiting_max
    ),
    ("running", "Running in a replica, mean"): lambda one: wording.plain(one.total.running_mean),
    ("KV max", "KV cache usage, max"): lambda one: wording.percent(one.total.kv_cache_usage_max),
    ("preempted", "Preemptions"): lambda one: wording.whole(one.total.preemptions),
    ("prefix hits", "Prefix cache hit rate"): lambda one: wording.percent(
        one.total.prefix_hit_rate
    ),
}
_COUNTS: Mapping[str, Figure] = {
    "Prompt tokens": lambda one: wording.whole(one.total.prompt_tokens),
    "Generation tokens": lambda one: wording.whole(one.total.generation_tokens),
    "Requests finished": lambda one: wording.whole(one.total.finished),
}


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A figure, and its value for each arm that was run, under the arm's name."""

    label: str
    values: tuple[tuple[str, str], ...]


def scraped_arms(judgement: Judgement) -> Iterator[tuple[str, ServerSummary]]:
    """The arms of which there are readings, by the names that columns have."""
    roles: tuple[Role, Role] = ("control", "treatment")
    for role, name in zip(roles, arms_of([judgement]).headings, strict=True):
        for one in judgement.servers:
            if one.role == role and one.scraped:
                yield name or one.arm, one


def server_rows(judgement: Judgement) -> tuple[ServerRow, ...]:
    """What the page shows of the server's side; empty where nothing was scraped."""
    arms = dict(scraped_arms(judgement))
    if not arms:
        return ()
    figures = {**{long: figure for (_, long), figure in FIGURES.items()}, **_COUNTS}
    # Arms need not have the same replicas.
    replicas = dict.fromkeys(one.replica for arm in arms.values() for one in arm.replicas)
    return (
        *(_row(f"{one}: requests, mean queue", arms, _of_replica(one)) for one in replicas),
        *(_row(label, arms, figure) for label, figure in figures.items()),
        _row("Scrapes", arms, _scrapes),
    )


def _row(label: str, arms: Mapping[str, ServerSummary], figure: Figure) -> ServerRow:
    return ServerRow(label, tuple((name, figure(one)) for name, one in arms.items()))


def _of_replica(name: str) -> Figure:
    def figure(summary: ServerSummary) -> str:
        if name not in {one.replica for one in summary.replicas}:
            return wording.NO_DATA
        share = wording.percent(summary.share(name))
        return f"{share}, {wording.plain(summary.replica(name).waiting_mean)}"

    return figure


def _scrapes(summary: ServerSummary) -> str:
    """`112, p95 3.1 ms late`: how often, and how well what is shown was read."""
    replicas = summary.replicas
    text = str(sum(one.scrapes for one in replicas))
    if failed := sum(one.failed for one in replicas):
        text = f"{text}, {failed} failed"
    late_s = [one.late_p95_s for one in replicas if one.late_p95_s is not None]
    return f"{text}, p95 {wording.duration(max(late_s))} late" if late_s else text
