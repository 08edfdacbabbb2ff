"""The rows of tables in the terminal and on the page: comparisons, and the server's side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bench.analysis.factorial import Interaction
from bench.analysis.judgement import Comparison, Judgement, SloOutcome, SloResult, Verdict
from bench.analysis.memory import MemoryUse
from bench.analysis.server_side import ServerSummary
from reports import wording
from reports.run import Arms, arms_of

Values = tuple[tuple[str, str], ...]
Figure = Callable[[ServerSummary], str]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison table, as text; `outcome` decides its colour.

    `values` has (heading, value) of each arm that was run. `interval` is (low, ratio, high)
    where the comparison has all three.
    """

    label: str
    values: Values
    primary: bool = False
    ratio: str = ""
    outcome: Verdict | SloOutcome | Interaction | None = None
    interval: tuple[float, float, float] | None = None


def rows_of(judgement: Judgement, arms: Arms) -> Iterator[Row]:
    """A row for each metric, then one for each SLO that is set."""
    for comparison in judgement.comparisons:
        yield _comparison(comparison, judgement.models, arms)
        if comparison.primary and comparison.control_failed != comparison.treatment_failed:
            failed = (comparison.control_failed, comparison.treatment_failed)
            shares = (wording.percent(share, decimals=2) for share in failed)
            yield Row("  failed requests", _values(arms, *shares))
    if not judgement.comparisons:
        # An arm that was run alone.
        for name, summaries in itertools.groupby(judgement.summaries, lambda one: one.metric):
            of_role = {one.role: wording.quantity(one.value, one.unit) for one in summaries}
            values = _values(arms, of_role.get("control", ""), of_role.get("treatment", ""))
            primary = name == judgement.scenario.primary
            yield Row(wording.metric(name), values, primary=primary)
    results = (judgement.slos_of("control"), judgement.slos_of("treatment"))
    for control, treatment in itertools.zip_longest(*results):
        # The treatment's outcome is the one that gates.
        gating = treatment or control
        if gating.outcome is not SloOutcome.UNSET:
            yield Row(
                label=_slo_label(gating, single=len(judgement.models) == 1),
                values=_values(arms, _attainment(control), _attainment(treatment)),
                ratio=f"target {wording.target(gating.target)}",
                outcome=gating.outcome,
            )


def notes_of(judgement: Judgement) -> tuple[str, ...]:
    """The judgement's notes, and the reasons of its comparisons, equal ones merged."""
    if judgement.invalid_reasons:
        return judgement.notes
    metrics: dict[str, list[str]] = {}
    for one in judgement.comparisons:
        for reason in one.reasons:
            of_part = "" if _is_whole(one, judgement.models) else f" of {_part(one)}"
            metrics.setdefault(reason, []).append(wording.metric(one.metric) + of_part)
    everywhere = len(judgement.comparisons)
    of_metrics = (
        f"{', '.join(names) if len(names) < everywhere else 'every metric'}: {reason}"
        for reason, names in metrics.items()
    )
    return (*judgement.notes, *of_metrics)


def _comparison(comparison: Comparison, models: tuple[str, ...], arms: Arms) -> Row:
    low, ratio, high = comparison.low, comparison.ratio, comparison.high
    whole = _is_whole(comparison, models)
    return Row(
        # A part of the requests stands below the metric of them all.
        label=wording.metric(comparison.metric) if whole else f"  of {_part(comparison)}",
        values=_values(
            arms,
            wording.quantity(comparison.control_value, comparison.unit),
            wording.quantity(comparison.treatment_value, comparison.unit),
        ),
        primary=comparison.primary,
        ratio=wording.ratio(comparison),
        outcome=comparison.verdict,
        interval=None if low is None or ratio is None or high is None else (low, ratio, high),
    )


def _values(arms: Arms, control: str, treatment: str) -> Values:
    values = {"control": control, "treatment": treatment}
    return tuple((heading, values[role]) for role, heading in arms.headings.items())


def _is_whole(comparison: Comparison, models: tuple[str, ...]) -> bool:
    return comparison.models == models and not comparison.tenant


def _part(comparison: Comparison) -> str:
    """The tenant, or the models, to whose requests the comparison is limited."""
    return comparison.tenant or ", ".join(comparison.models)


def _slo_label(result: SloResult, *, single: bool) -> str:
    if single and not result.tenant:
        return "SLO attainment"
    return ", ".join(filter(None, ("SLO", "" if single else result.model, result.tenant)))


def _attainment(result: SloResult | None) -> str:
    return "" if result is None else wording.percent(result.attainment)


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
_MEMORY: Mapping[str, Callable[[MemoryUse], float | None]] = {
    "Memory of all GPUs before load": lambda one: one.idle_gib,
    "Memory of all GPUs, most": lambda one: one.most_gib,
    "KV cache of an engine with KVCached, most": lambda one: max(
        one.kv_most_gib.values(), default=None
    ),
}


def scraped_arms(judgement: Judgement) -> dict[str, ServerSummary]:
    """The arms whose replicas were scraped, by their headings."""
    headings = arms_of([judgement]).headings
    return {headings[one.role]: one for one in judgement.servers if one.scraped}


def server_rows(judgement: Judgement) -> list[tuple[str, Values]]:
    """The page's rows on the server's side; empty where nothing was scraped."""
    arms = scraped_arms(judgement)
    if not arms:
        return []
    # Arms need not have the same replicas.
    replicas = dict.fromkeys(one.replica for arm in arms.values() for one in arm.replicas)
    figures: dict[str, Figure] = {
        **{f"{name}: requests, mean queue": _of_replica(name) for name in replicas},
        **{long: figure for (_, long), figure in FIGURES.items()},
        **_COUNTS,
        "Scrapes": _scrapes,
    }
    return [
        *(
            (label, tuple((heading, figure(one)) for heading, one in arms.items()))
            for label, figure in figures.items()
        ),
        *_memory_rows(judgement, arms),
    ]


def _memory_rows(judgement: Judgement, arms: Iterable[str]) -> Iterator[tuple[str, Values]]:
    """Rows for the memory of GPUs; none where it was not read."""
    headings = arms_of([judgement]).headings
    uses = {headings[one.role]: one for one in judgement.memory}
    for label, figure in _MEMORY.items():
        gib = {arm: figure(uses[arm]) if arm in uses else None for arm in arms}
        if any(one is not None for one in gib.values()):
            yield label, tuple((arm, wording.quantity(one, "GiB")) for arm, one in gib.items())


def _of_replica(name: str) -> Figure:
    def figure(summary: ServerSummary) -> str:
        if name not in {one.replica for one in summary.replicas}:
            return wording.NO_DATA
        share = wording.percent(summary.share(name))
        return f"{share}, {wording.plain(summary.replica(name).waiting_mean)}"

    return figure


def _scrapes(summary: ServerSummary) -> str:
    """The number of scrapes and their lateness: `112, p95 3.1 ms late`."""
    replicas = summary.replicas
    text = str(sum(one.scrapes for one in replicas))
    if failed := sum(one.failed for one in replicas):
        text = f"{text}, {failed} failed"
    late_s = [one.late_p95_s for one in replicas if one.late_p95_s is not None]
    return f"{text}, p95 {wording.duration(max(late_s))} late" if late_s else text
