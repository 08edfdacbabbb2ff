from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from bench.analysis.judgement import Judgement, Summary
from reports import wording
from reports.dashboard.charts import bars, percentiles
from reports.dashboard.figures import (
    SUCCESS,
    Series,
    cases_of,
    figures_csv,
    marked,
    on_its_side,
    plain,
    ratios,
    series_of,
    shown_metrics,
    table,
    trials_table,
    verdicts,
)
from tests.reports.cases import better_case, one_arm_case, same_arm_case, scraped_case


def judgement_with(**values: float | None) -> Judgement:
    """A judgement whose control has these values, and whose treatment has half of each."""
    made = better_case().judgement
    summaries = tuple(
        Summary(one.role, one.arm, name, "s", value and value * share, 40)
        for one, share in ((made.summaries[0], 1.0), (made.summaries[-1], 0.5))
        for name, value in values.items()
    )
    return replace(made, summaries=summaries)


def test_a_row_has_the_figures_of_the_judgement_as_other_reports_show_them() -> None:
    judgement = judgement_with(ttft_mean_s=0.5, ttft_p50_s=0.4, ttft_p95_s=1.5, output_tps=200.0)
    control, treatment = table(
        series_of("run", "built-in", [judgement]), ["heavy-tail · tiny-llama"], "ttft"
    )
    assert control["run · arm"] == "run · baseline"
    assert treatment["run · arm"] == "run · managed"
    assert (control["TTFT mean"], control["TTFT median"]) == ("500 ms", "400 ms")
    assert (control["TTFT P95"], treatment["TTFT P95"]) == ("1.50 s", "750 ms")
    assert control["TTFT P99"] == control["requests/s"] == wording.NO_DATA


def test_the_success_rate_is_what_did_not_fail_and_unknown_without_it() -> None:
    known, unknown = (
        series_of("run", "x", [judgement_with(**values)])[0].value(
            "heavy-tail · tiny-llama", SUCCESS
        )
        for values in ({"error_rate": 0.25}, {"ttft_mean_s": 1.0})
    )
    assert (known, unknown) == (0.75, None)


def test_an_arm_against_itself_is_two_series() -> None:
    names = [one.arm for one in series_of("run", "x", [same_arm_case().judgement])]
    assert names == ["baseline", "baseline, again"]


def test_arms_of_several_comparisons_are_one_series_each() -> None:
    several = [better_case(name).judgement for name in ("burst", "heavy-tail")]
    made = series_of("run", "x", several)
    assert [one.arm for one in made] == ["baseline", "managed"]
    assert cases_of(made) == ["burst · tiny-llama", "heavy-tail · tiny-llama"]


def test_ratios_are_taken_to_the_same_arm_of_the_reference_run() -> None:
    usual = series_of("old", "x", [judgement_with(ttft_p95_s=1.0)])
    other = series_of("new", "x", [judgement_with(ttft_p95_s=3.0, ttft_p50_s=2.0)])
    both = [*(marked(one, reference=True) for one in usual), *other]
    rows = ratios(both, cases_of(both), "ttft")
    assert [(row["run · arm"], row["TTFT P95"]) for row in rows] == [
        ("new · baseline", "3.00 x"),
        ("new · managed", "3.00 x"),
    ]
    assert rows[0]["TTFT median"] == wording.NO_DATA
    assert ratios(other, cases_of(other), "ttft") == []


@pytest.mark.parametrize(
    ("value", "usual", "text"),
    [
        (math.inf, 1.0, "unbounded x"),
        (1.0, math.inf, "no data"),
        (math.inf, math.inf, "no data"),
        (0.0, 0.0, "no data"),
    ],
)
def test_what_has_no_ratio_has_words(value: float, usual: float, text: str) -> None:
    (old, *_), (new, *_) = (
        series_of(run, "x", [judgement_with(ttft_p95_s=one)])
        for run, one in (("old", usual), ("new", value))
    )
    (row,) = ratios([marked(old, reference=True), new], cases_of([old]), "ttft")
    assert row["TTFT P95"] == text


def test_the_csv_has_each_figure_unrounded() -> None:
    judgement = better_case().judgement
    made = series_of("run", "built-in", [judgement])
    rows = list(csv.DictReader(io.StringIO(figures_csv(made, cases_of(made)))))
    read = {(row["arm"], row["metric"]): row["value"] for row in rows}
    assert read == {(one.arm, one.metric): str(one.value) for one in judgement.summaries}
    assert {row["scenario"] for row in rows} == {"heavy-tail · tiny-llama"}


def test_a_verdict_is_shown_where_two_arms_were_compared() -> None:
    (row,) = verdicts("run", [better_case().judgement, one_arm_case().judgement])
    assert row["verdict"] == "better"
    assert row["ratio"].startswith("managed / baseline 0.4")


def test_trials_show_their_queues() -> None:
    rows = trials_table(scraped_case().trials[:2])
    assert [(row["block"], row["arm"], row["requests"]) for row in rows] == [
        ("1", "baseline", "40"),
        ("1", "managed", "40"),
    ]
    assert [row["queue depth of a replica, mean"] for row in rows] == ["2.00", "1.00"]


def test_a_table_on_its_side_has_the_same_cells() -> None:
    rows = [{"case": "a", "x": "1", "y": "2"}, {"case": "b", "x": "3", "y": "4"}]
    assert on_its_side(rows) == [{"": "x", "a": "1", "b": "3"}, {"": "y", "a": "2", "b": "4"}]
    assert on_its_side([]) == []


def test_names_from_outside_are_no_markup() -> None:
    assert "![" not in plain("![x](http://example.invalid/x.png)")
    assert "http://" not in plain("http://example.invalid")


def texts(made: Series, *beside: Series) -> list[str]:
    chart = bars("ttft_p95_s", [made], cases_of([made]), [made, *beside])
    return [text.get_text().strip() for axes in chart.figure.axes for text in axes.texts]


@pytest.mark.parametrize(("value", "words"), [(math.inf, "unbounded"), (None, "no data")])
def test_a_bar_that_cannot_be_drawn_has_words(value: float | None, words: str) -> None:
    made = series_of("run", "x", [judgement_with(ttft_p95_s=value)])[0]
    other = series_of("other", "x", [judgement_with(ttft_p95_s=1.0)])[0]
    assert words in texts(made, other)


def test_charts_that_stand_side_by_side_share_their_axes_and_colours() -> None:
    control, treatment = series_of("run", "x", [judgement_with(ttft_p50_s=2.0, ttft_p95_s=4.0)])
    cases = cases_of([control])
    drawn = [bars("ttft_p95_s", [one], cases, [control, treatment]) for one in (control, treatment)]
    left, right = (chart.figure.axes[0] for chart in drawn)
    assert left.get_xlim() == right.get_xlim()
    assert left.patches[0].get_facecolor() != right.patches[0].get_facecolor()
    lines = [
        percentiles("ttft", [one], cases[0], [control, treatment]) for one in (control, treatment)
    ]
    upper, lower = (chart.figure.axes[0] for chart in lines)
    assert upper.get_ylim() == lower.get_ylim()
    assert np.asarray(upper.lines[0].get_ydata()).tolist() == [2.0, 4.0]


def test_charts_without_figures_say_so() -> None:
    empty = series_of("run", "x", [judgement_with(output_tps=1.0)])
    for chart in (
        bars("ttft_p95_s", empty, cases_of(empty), empty),
        percentiles("ttft", empty, cases_of(empty)[0], empty),
    ):
        assert [text.get_text() for text in chart.figure.axes[0].texts] == [wording.NO_DATA]


def test_a_chart_can_be_a_png() -> None:
    made = series_of("run", "x", [judgement_with(ttft_p95_s=1.0)])
    assert bars("ttft_p95_s", made, cases_of(made), made).png().startswith(b"\x89PNG")


def test_rates_and_four_statistics_are_shown() -> None:
    assert shown_metrics("e2e") == (
        *("throughput_rps", "output_tps", "success_rate"),
        *("e2e_mean_s", "e2e_p50_s", "e2e_p95_s", "e2e_p99_s"),
    )
