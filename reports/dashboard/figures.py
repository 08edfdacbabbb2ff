"""The figures of arms, of one run or of several, as tables and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.analysis.judgement import Judgement, Summary
from bench.analysis.metrics import metric
from bench.analysis.server_side import server_summary
from bench.records import Trial
from reports import wording
from reports.formats import escaped
from reports.run import title

# What is shown of a latency: by its name here, the heading.
STATISTICS = {"mean": "mean", "p50": "median", "p95": "P95", "p99": "P99"}
PERCENTILES = (50, 90, 95, 99)
LATENCIES = ("ttft", "scheduled_ttft", "e2e", "scheduled_e2e", "tpot", "itl")
SUCCESS = "success_rate"
RATES = ("throughput_rps", "output_tps", SUCCESS)
STAR = "★ "


@dataclass(frozen=True, slots=True)
class Series:
    """One arm of one run: the figures of each of its cases, as its judgements have them.

    `run` is what the run is called, `benchmark` what sent its load, `arm` its heading in the run.
    `cases` has the summaries of each case, by the case's title and the metric's name.
    """

    run: str
    benchmark: str
    arm: str
    environment: str
    cases: Mapping[str, Mapping[str, Summary]]
    reference: bool = False

    @property
    def name(self) -> str:
        """`★ 20260131-235959-a1b2 · managed`."""
        return f"{STAR if self.reference else ''}{self.run} · {self.arm}"

    def value(self, case: str, metric: str) -> float | None:
        """The value of a metric; None where it is not known, inf where requests failed."""
        found = self.cases.get(case, {}).get(metric)
        return None if found is None else found.value


def series_of(run: str, benchmark: str, judgements: Sequence[Judgement]) -> list[Series]:
    """The arms of a run, control first."""
    found: dict[tuple[str, str], Series] = {}
    for judgement in judgements:
        for role in dict.fromkeys(one.role for one in judgement.summaries):
            own = {one.metric: one for one in judgement.summaries if one.role == role}
            (arm,) = {one.arm for one in own.values()}
            # An arm that is compared with itself is in both roles.
            same = judgement.control == judgement.treatment and role == "treatment"
            empty = Series(run, benchmark, f"{arm}, again" if same else arm, "", {})
            before = found.get((role, arm), empty)
            cases = {**before.cases, title(judgement): with_success(own)}
            environment = judgement.environment
            found[role, arm] = replace(before, environment=environment, cases=cases)
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def with_success(summaries: Mapping[str, Summary]) -> dict[str, Summary]:
    """The summaries, and the share of requests that did not fail, where that is known."""
    errors = summaries.get("error_rate")
    if errors is None or errors.value is None:
        return dict(summaries)
    return {**summaries, SUCCESS: replace(errors, metric=SUCCESS, value=1 - errors.value)}


def cases_of(series: Sequence[Series]) -> list[str]:
    """The titles of all cases, in the order in which they come."""
    return list(dict.fromkeys(case for one in series for case in one.cases))


def shown_metrics(latency: str) -> tuple[str, ...]:
    """The metrics that are shown, with the statistics of one latency."""
    return (*RATES, *(f"{latency}_{statistic}_s" for statistic in STATISTICS))


def known_latencies(series: Sequence[Series]) -> list[str]:
    """The latencies of which any series has a figure."""
    names = {name for one in series for own in one.cases.values() for name in own}
    return [one for one in LATENCIES if names & {f"{one}_{kind}_s" for kind in STATISTICS}]


def marked(series: Series, *, reference: bool) -> Series:
    """The series, as one of the reference run or not."""
    return replace(series, reference=reference)


def plain(text: str) -> str:
    """A text that Streamlit shows as it is: without Markdown, links and pictures."""
    return escaped(text).replace(":", "\\:")


def quantity(latency: str) -> str:
    """`Scheduled TTFT`."""
    return wording.metric(latency)


def heading(metric: str) -> str:
    """`requests/s`, `TTFT P95`."""
    named = {"throughput_rps": "requests/s", "output_tps": "tokens/s", SUCCESS: "success rate"}
    if metric in named:
        return named[metric]
    quantity, _, statistic = metric.removesuffix("_s").rpartition("_")
    return f"{wording.metric(quantity)} {STATISTICS.get(statistic, statistic)}"


def table(series: Sequence[Series], cases: Sequence[str], latency: str) -> list[dict[str, str]]:
    """A row for each case and arm, with its figures as text by their headings."""
    return [
        {"scenario · model": case, "run · arm": one.name, "load by": one.benchmark}
        | {heading(name): _text(one, case, name) for name in shown_metrics(latency)}
        for case in cases
        for one in series
        if case in one.cases
    ]


def on_its_side(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A table with a row for each heading, and a column for each row of the table."""
    first = next(iter(rows[0])) if rows else ""
    headings = list(rows[0]) if rows else []
    return [{"": one, **{row[first]: row[one] for row in rows}} for one in headings[1:]]


def trials_table(trials: Sequence[Trial]) -> list[dict[str, str]]:
    """A row for each trial: its place, arm, requests, latency, and queue depth in its replicas."""
    median = metric("scheduled_ttft_p50_s")
    return [
        {
            "block": str(one.block + 1),
            "arm": one.arm,
            "role": one.role,
            "requests": str(len(one.samples)),
            "failed": str(sum(not sample.ok for sample in one.samples)),
            "scheduled TTFT, median": wording.quantity(median.over([one]), "s"),
            "queue depth of a replica, mean": wording.plain(
                server_summary([one]).total.waiting_mean
            ),
        }
        for one in trials
    ]


def ratios(series: Sequence[Series], cases: Sequence[str], latency: str) -> list[dict[str, str]]:
    """A row for each case and arm of another run: its figures / those of the reference run.

    An arm is set against the arm of the same name. Empty where none is in the reference run.
    """
    of_arm = {one.arm: one for one in series if one.reference}
    return [
        {"scenario · model": case, "run · arm": one.name}
        | {heading(name): _ratio(one, of_arm[one.arm], case, name) for name in _compared(latency)}
        for case in cases
        for one in series
        if not one.reference and one.arm in of_arm and case in one.cases
        if case in of_arm[one.arm].cases
    ]


def verdicts(run: str, judgements: Sequence[Judgement]) -> list[dict[str, str]]:
    """A row for each case in which two arms were compared: its verdict; if invalid, the reasons."""
    return [
        {
            "scenario · model": title(one),
            "run": run,
            "primary metric": wording.metric(one.primary.metric),
            "ratio": f"{one.primary.treatment} / {one.primary.control} "
            f"{wording.ratio(one.primary)}",
            "verdict": "; ".join((one.primary.verdict, *one.invalid_reasons)),
        }
        for one in judgements
        if one.primary is not None
    ]


def figures_csv(series: Sequence[Series], cases: Sequence[str]) -> str:
    """A header, and a line for each figure of each arm, unrounded.

    An empty field is unknown, `inf` a latency in which failed requests count as never answered.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        (
            *("run", "benchmark", "environment", "scenario", "arm", "role"),
            *("metric", "unit", "value", "n"),
        )
    )
    writer.writerows(_lines(series, cases))
    return text.getvalue()


def _lines(series: Sequence[Series], cases: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for case in cases:
        for one in series:
            where = (one.run, one.benchmark, one.environment, case, one.arm)
            for summary in one.cases.get(case, {}).values():
                yield (*where, summary.role, summary.metric, summary.unit, summary.value, summary.n)


def _text(series: Series, case: str, metric: str) -> str:
    found = series.cases[case].get(metric)
    return wording.NO_DATA if found is None else wording.quantity(found.value, found.unit)


def _compared(latency: str) -> tuple[str, ...]:
    return tuple(name for name in shown_metrics(latency) if name != SUCCESS)


def _ratio(series: Series, reference: Series, case: str, metric: str) -> str:
    value, usual = series.value(case, metric), reference.value(case, metric)
    if value is None or not usual or math.isinf(usual):
        return wording.NO_DATA
    return f"{wording.factor(value / usual)} x"
