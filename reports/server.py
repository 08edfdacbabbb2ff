"""The server's side in words: the same figures for every report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench.analysis.judgement import Judgement
from bench.analysis.server_side import ServerSummary
from bench.records import Role
from reports import wording
from reports.case import arms_of

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
