"""The charts of a case, in the order in which they are shown."""

from __future__ import annotations

from bench.analysis.timings import scheduled_e2e_s, scheduled_ttft_s
from reports.case import Case, short_title
from reports.charts.cdf import latency_cdf
from reports.charts.forest import blocks
from reports.charts.load import load_curves
from reports.charts.over_time import has_queues, queues, timeline
from reports.charts.replicas import replicas
from reports.charts.style import Chart, Picture


def pictures_of(case: Case, setup: str) -> tuple[Picture, ...]:
    """The charts that the case has data for; `setup` goes into their captions."""
    if not case.trials:
        return ()
    caption = f"{short_title(case.judgement)} · {setup}"
    if case.judgement.scenario.search_step is not None:
        # Latencies of several loads together would be those of none.
        return tuple(chart.picture() for chart in _of_search(case, caption))
    charts = [
        latency_cdf(case, "Scheduled TTFT", scheduled_ttft_s, caption),
        latency_cdf(case, "Scheduled E2E", scheduled_e2e_s, caption),
        replicas(case, caption),
        timeline(case, caption),
    ]
    if case.judgement.effects:
        charts.insert(2, blocks(case.judgement, caption))
    if has_queues(case):
        charts.append(queues(case, caption))
    return tuple(chart.picture() for chart in charts)


def _of_search(case: Case, caption: str) -> list[Chart]:
    charts = [load_curves(case, caption), replicas(case, caption)]
    if case.judgement.effects:
        charts.insert(1, blocks(case.judgement, caption))
    return charts
