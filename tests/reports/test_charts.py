"""Charts: what they say, and that they are the same every time."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.judgement import Case
from bench.analysis.timings import scheduled_ttft_s
from bench.records import Replica, Slo
from reports.charts import interactivity, kv_cache, margins, memory, pictures_of, quantiles
from reports.charts.cdf import latency_cdf
from reports.charts.forest import blocks, ratio_axis
from reports.charts.over_time import queues, timeline
from reports.charts.replicas import replicas
from reports.charts.series import in_flight, typical_block
from reports.charts.style import Chart, Frame, new_chart, seconds_axis
from tests.bench.making import FACTS, answered, failed, trial, with_readings
from tests.reports.cases import (
    SETUP,
    better_case,
    failing_case,
    memory_case,
    one_arm_case,
    same_arm_case,
    scraped_case,
    searched_case,
    unreadable_case,
)

Draw = Callable[[Case], Chart]

DRAWN: dict[str, Draw] = {
    "cdf": lambda case: latency_cdf(case, "Scheduled TTFT", scheduled_ttft_s, SETUP),
    "timeline": lambda case: timeline(case, SETUP),
    "blocks": lambda case: blocks(case.judgement, SETUP),
    "queues": lambda case: queues(case, SETUP),
    "replicas": lambda case: replicas(case, SETUP),
}
EMPTY = replace(better_case(), trials=())


def words(chart: Chart) -> str:
    """All text of a chart; also proves that its SVG is well-formed XML."""
    root = ET.fromstring(chart.picture().svg)
    return "\n".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("text"))


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN.keys())
@pytest.mark.parametrize(
    "case",
    [
        better_case(),
        same_arm_case(),
        one_arm_case(),
        failing_case(),
        scraped_case(),
        unreadable_case(),
        EMPTY,
    ],
    ids=["better", "same arm", "one arm", "failing", "scraped", "unreadable", "no trials"],
)
def test_every_chart_can_be_drawn_of_every_case_and_names_the_setup(draw: Draw, case: Case) -> None:
    assert SETUP in words(draw(case))


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN.keys())
def test_the_same_case_gives_the_same_bytes(draw: Draw) -> None:
    assert draw(scraped_case()).picture() == draw(scraped_case()).picture()


@given(
    st.lists(
        st.sampled_from(["vLLM", "(CPU build),", "AMD", "Xeon(R)", "Processor", "·", "96 cores"]),
        max_size=40,
    )
)
def test_a_caption_of_any_length_ends_within_the_chart_and_below_its_plots(
    words: list[str],
) -> None:
    chart, (axes,) = new_chart("A title", (), " ".join(words), Frame(plots=(1.0,)))
    caption = chart.figure.texts[-1].get_window_extent()
    whole = chart.figure.bbox
    assert caption.y0 >= whole.y0
    assert caption.y1 <= axes.get_window_extent().y0
    assert caption.x1 <= whole.x1


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN.keys())
def test_names_are_shown_as_they_are_and_not_as_formulas(draw: Draw) -> None:
    name = "$\\frac$ <x>"
    case = better_case()
    trials = [
        replace(one, replicas=(Replica("m", name, "http://127.0.0.1:1"),)) for one in case.trials
    ]
    judgement = replace(case.judgement, control=name, models=(name,))
    assert name in words(draw(Case(judgement, tuple(trials))))


def test_the_distribution_tells_percentiles_and_n_of_both_arms() -> None:
    text = words(DRAWN["cdf"](better_case()))
    assert "baseline: p50 505 ms, p95 520 ms, n 320" in text
    assert "managed: p50 205 ms, p95 220 ms, n 320" in text


def test_the_distribution_counts_failed_requests_as_never_answered() -> None:
    text = words(DRAWN["cdf"](failing_case()))
    assert "baseline: p50 500 ms, p95 unbounded, n 320, 80 failed" in text
    assert "managed: p50 unbounded, p95 unbounded, n 320, 320 failed" in text


def test_the_block_chart_has_a_row_for_each_block_and_the_verdict() -> None:
    text = words(DRAWN["blocks"](better_case()))
    assert [f"block {n}" in text for n in (0, 1, 2, 3, 4)] == [True] * 4 + [False]
    assert "0.41 [0.36, 0.46]" in text
    assert "better" in text


def test_an_infinite_interval_is_drawn_to_the_edge() -> None:
    judgement = better_case().judgement
    wild = replace(judgement.comparisons[0], low=0.0, high=math.inf)
    chart = blocks(replace(judgement, comparisons=(wild,)), SETUP)
    (axes,) = chart.figure.axes
    assert "unbounded" in words(chart)
    assert list(axes.get_xlim()) in [np.asarray(line.get_xdata()).tolist() for line in axes.lines]


def test_an_interval_of_few_noisy_blocks_leaves_an_axis_that_can_be_read() -> None:
    low, high, ticks = ratio_axis([1e-14, 0.41, 2.28e13, None, math.inf])
    assert 1e-4 < low < high < 1e4
    assert 3 <= len(ticks) <= 7


def test_replicas_that_served_nothing_and_requests_without_one_are_shown() -> None:
    case = better_case()
    lost = [
        trial("control", 0, 0, [answered(0, 0.1, replica="tiny-llama-0"), failed(1, replica=None)])
    ]
    text = words(replicas(replace(case, trials=tuple(lost)), SETUP))
    assert "tiny-llama-0" in text
    assert "tiny-llama-1" in text
    assert "no replica" in text


def test_queues_are_shown_for_each_arm_and_replica() -> None:
    chart = queues(scraped_case(), SETUP)
    text = words(chart)
    for arm in ("baseline", "managed"):
        assert f"{arm}: scheduled TTFT of each request" in text
        assert f"{arm}: requests waiting in each replica" in text
    assert [sign in text for sign in ("◆ tiny-llama-0", "▲ tiny-llama-1")] == [True] * 2
    depths = chart.figure.axes[1::2]
    assert depths[0].get_ylim() == depths[1].get_ylim()
    assert [max(np.asarray(line.get_ydata())) for line in depths[0].lines] == [3, 1]


def test_a_replica_that_could_not_be_read_has_no_line_and_is_named() -> None:
    chart = queues(unreadable_case(), SETUP)
    assert "tiny-llama-1: not readable" in words(chart)
    lines = chart.figure.axes[1].lines
    assert [np.isnan(np.asarray(line.get_ydata())).all() for line in lines] == [False, True]


def test_more_replicas_than_colours_are_counted() -> None:
    replicas = tuple(
        Replica("tiny-llama", f"r-{index}", f"http://127.0.0.1:{index + 1}") for index in range(9)
    )
    made = [
        with_readings(replace(one, replicas=replicas), {"waiting": range(9)})
        for one in better_case().trials
    ]
    text = words(queues(replace(better_case(), trials=tuple(made)), SETUP))
    assert "3 more replicas" in text


@pytest.mark.parametrize(
    "case", [same_arm_case(), one_arm_case(), failing_case(), unreadable_case(), searched_case()]
)
def test_every_case_has_a_gallery_and_its_pictures_say_what_their_legends_say(case: Case) -> None:
    pictures = pictures_of(case, SETUP)
    assert pictures
    assert any(arm in one.text for one in pictures for arm in ("baseline", "managed"))


def test_quantiles_of_the_arms_are_drawn_against_each_other_on_equal_axes() -> None:
    (chart,) = quantiles.charts(better_case(), SETUP)
    (axes,) = chart.figure.axes
    assert axes.get_xlim() == axes.get_ylim()
    diagonal, curve, *_ = axes.lines
    assert all(np.asarray(curve.get_ydata()) < np.asarray(curve.get_xdata()))
    assert np.asarray(diagonal.get_xdata()).tolist() == np.asarray(diagonal.get_ydata()).tolist()
    assert list(quantiles.charts(one_arm_case(), SETUP)) == []
    assert list(quantiles.charts(failing_case(), SETUP)) == []


def test_kv_caches_of_both_arms_share_their_axes() -> None:
    (chart,) = kv_cache.charts(scraped_case(), SETUP)
    control, treatment = chart.figure.axes
    assert (control.get_xlim(), control.get_ylim()) == (treatment.get_xlim(), treatment.get_ylim())
    assert [max(np.asarray(line.get_ydata())) for line in control.lines] == [50, 25]


def test_memory_of_both_arms_shares_its_axes_and_has_a_line_for_each_kv_cache() -> None:
    (chart,) = memory.charts(memory_case(), SETUP)
    control, treatment = chart.figure.axes
    assert (control.get_xlim(), control.get_ylim()) == (treatment.get_xlim(), treatment.get_ylim())
    most = [
        [np.nanmax(np.asarray(line.get_ydata())) for line in one.lines] for one in chart.figure.axes
    ]
    assert most == [[61.0], [55.0, 24.5]]
    text = words(chart)
    assert "GPUs of gpu-0" in text
    assert "KV cache of a" in text
    assert "managed, KV cache of a: at most 24.5 GiB" in chart.picture().text
    assert list(memory.charts(scraped_case(), SETUP)) == []


def test_tokens_of_a_user_and_in_total_have_a_dot_for_each_trial() -> None:
    (chart,) = interactivity.charts(better_case(), SETUP)
    (axes,) = chart.figure.axes
    dots = [np.asarray(line.get_xdata()) for line in axes.lines]
    # Both arms: the trials, then their median. A token takes 10 ms.
    assert [len(one) for one in dots] == [8, 1, 8, 1]
    assert all(one == pytest.approx(100) for one in dots)
    (chart,) = interactivity.charts(failing_case(), SETUP)
    assert [line.text.partition(",")[0] for line in chart.lines] == ["baseline"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20))
def test_no_trial_beats_one_of_the_front_in_both(points: list[tuple[float, float]]) -> None:
    kept = interactivity.front(points)
    assert kept == sorted(kept)
    for x, y in points:
        assert any(a >= x and b >= y for a, b in kept)
        assert not any(a < x and b < y for a, b in kept)


def test_margins_have_a_row_for_each_objective_and_the_time_that_the_wanted_share_took() -> None:
    (chart,) = margins.charts(better_case(), SETUP)
    text = words(chart)
    assert "tiny-llama TTFT" in text
    assert "520 ms" in text
    assert "220 ms" in text
    facts = replace(better_case().judgement.scenario, slos={})
    without = replace(better_case(), judgement=replace(better_case().judgement, scenario=facts))
    assert list(margins.charts(without, SETUP)) == []


def test_margins_have_a_row_for_each_tenant_and_a_hollow_mark_where_too_many_failed() -> None:
    facts = replace(FACTS, slos={"tiny-llama@a": Slo(ttft_s=1.0), "tiny-llama@b": Slo(ttft_s=1.0)})
    samples = [answered(index, 0.25, tenant="a") for index in range(20)]
    samples += [failed(index, tenant="b") for index in range(20, 40)]
    made = trial("control", 0, 0, samples, scenario=facts)
    judgement = replace(better_case().judgement, scenario=facts)
    (chart,) = margins.charts(Case(judgement, (made,)), SETUP)
    assert [one in words(chart) for one in ("tiny-llama@a TTFT", "tiny-llama@b TTFT")] == [True] * 2
    (axes,) = chart.figure.axes
    _, met, lost = axes.lines
    assert [line.get_fillstyle() for line in (met, lost)] == ["full", "none"]
    assert float(np.asarray(met.get_xdata())[0]) == pytest.approx(0.25)


@given(st.lists(st.integers(0, 50), min_size=1), st.floats(0.01, 1))
def test_the_time_of_a_share_is_the_shortest_within_which_that_share_was_done(
    times: list[float], share: float
) -> None:
    kept = margins.kept_s(times, share)
    assert kept is not None
    assert sum(one <= kept for one in times) >= share * len(times) - 1e-5
    assert sum(one < kept for one in times) < share * len(times)


def test_queues_are_in_the_gallery_only_where_servers_were_scraped() -> None:
    def titles(case: Case) -> list[str]:
        return [picture.title for picture in pictures_of(case, SETUP)]

    kv_cache, queue = sorted(set(titles(scraped_case())) - set(titles(better_case())))
    assert kv_cache.startswith("KV cache in the replicas, block")
    assert queue.startswith("Queues in the replicas, block")


def test_the_gallery_of_a_case_without_trials_is_empty() -> None:
    assert pictures_of(EMPTY, SETUP) == ()


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50), st.booleans()), max_size=40))
def test_requests_in_flight_are_never_negative_and_end_at_zero(
    spans: list[tuple[float, float, bool]],
) -> None:
    samples = [
        failed(0, sent_s=start)
        if lost
        else answered(0, 0.0, sent_s=start, last_token_s=start + length)
        for start, length, lost in spans
    ]
    times, counts = in_flight(trial("control", 0, 0, samples, elapsed_s=200.0))
    assert (counts >= 0).all()
    assert counts[-1] == 0
    assert (times[1:] >= times[:-1]).all()


def test_the_block_shown_over_time_is_neither_the_best_nor_the_worst() -> None:
    assert typical_block(with_ratios({0: 0.2, 1: 0.9, 2: 0.5, 3: 0.4})) == 3
    assert typical_block(with_ratios({})) == 0
    assert typical_block(replace(with_ratios({}), trials=())) is None


def test_the_block_shown_over_time_is_one_that_counts() -> None:
    assert typical_block(with_ratios({1: 0.2, 3: 0.5})) == 1
    assert typical_block(with_ratios({2: None, 3: None})) == 2
    text = words(timeline(with_ratios({1: 0.2, 2: 0.5, 3: 0.9}), SETUP))
    assert "Over time, block 2" in text


def test_the_block_chart_has_no_row_for_a_block_that_was_set_aside() -> None:
    text = words(blocks(with_ratios({0: 0.4, 2: 0.5}).judgement, SETUP))
    assert [f"block {n}" in text for n in (0, 1, 2)] == [True, False, True]


def with_ratios(ratios: dict[int, float | None]) -> Case:
    """`better_case` of which only these blocks count."""
    case = better_case()
    return replace(case, judgement=replace(case.judgement, ratios=ratios))


@pytest.mark.parametrize(
    ("low_s", "high_s"),
    [
        (0.445, 0.556),
        (0.433, 0.631),
        (0.5, 0.5005),
        (0.21, 0.99),
        (0.0501, 0.499),
        (0.456, 1.586),
        (0.1, 10.0),
        (0.001, 900.0),
        (1e-6, 1e4),
    ],
)
@pytest.mark.parametrize("which", ["x", "y"])
def test_labels_of_seconds_differ_and_do_not_overlap(
    which: Literal["x", "y"], low_s: float, high_s: float
) -> None:
    chart, (axes,) = new_chart("Seconds", [], SETUP, Frame(plots=(1.35,)))
    seconds_axis(axes, which)
    axes.set(**{f"{which}lim": (low_s, high_s)})
    chart.figure.canvas.draw()
    axis = axes.xaxis if which == "x" else axes.yaxis
    labels = [one for one in axis.get_ticklabels() if one.get_text()]
    boxes = [one.get_window_extent() for one in labels]
    assert 2 <= len({one.get_text() for one in labels}) == len(labels)
    for one, other in itertools.pairwise(boxes):
        assert not one.overlaps(other)
