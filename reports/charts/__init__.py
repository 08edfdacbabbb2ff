"""The charts of a case, in the order in which they are shown."""

from __future__ import annotations

from bench.analysis.judgement import Case
from bench.analysis.timings import scheduled_e2e_s, scheduled_ttft_s
from reports.charts.cdf import latency_cdf
from reports.charts.forest import blocks
from reports.charts.load import load_curves
from reports.charts.over_time import has_queues, queues, timeline
from reports.charts.replicas import replicas
from reports.charts.style import Picture
from reports.run import short_title


def pictures_of(case: Case, setup: str) -> tuple[Picture, ...]:
    """The charts that the case has data for; `setup` goes into their captions."""
    if not case.trials:
        return ()
    caption = f"{short_title(case.judgement)} · {setup}"
    by_block = [blocks(case.judgement, caption)] if case.judgement.effects else []
    if case.judgement.scenario.search_step is not None:
        # Latencies of several loads together would be those of none.
        charts = [load_curves(case, caption), *by_block, replicas(case, caption)]
    else:
        charts = [
            latency_cdf(case, "Scheduled TTFT", scheduled_ttft_s, caption),
            latency_cdf(case, "Scheduled E2E", scheduled_e2e_s, caption),
            *by_block,
            replicas(case, caption),
            timeline(case, caption),
            *([queues(case, caption)] if has_queues(case) else []),
        ]
    return tuple(chart.picture() for chart in charts)
