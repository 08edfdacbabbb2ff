"""The effects of two factors as they are shown: table, page, chart, and text for programs."""

from __future__ import annotations

from dataclasses import replace

from bench.analysis.factorial import Interaction
from bench.analysis.judgement import Verdict
from reports import effects
from reports.charts.effects import picture_of
from reports.formats import markdown
from reports.headline import headline
from reports.page import render_factors, render_page
from reports.terminal import summary_text
from tests.reports.cases import better_case, factorial_run, run_with

RUN = factorial_run()
(FACTORS,) = RUN.factorials
SHOWN = ("0.71", "0.75", "1.50", "0.50", "1.00", "2.00")


def test_each_factor_has_its_effects_on_average_and_at_each_level_of_the_other() -> None:
    rows = effects.rows_of(FACTORS)
    assert [row.label for row in rows] == [
        "width: 8 / 4",
        "  at policy turn",
        "  at policy queue",
        "policy: queue / turn",
        "  at width 4",
        "  at width 8",
        "interaction width x policy",
    ]
    shown = [tuple(value for _, value in row.values) for row in rows]
    assert shown[1:3] == [("808 ms", "606 ms"), ("404 ms", "606 ms")]
    assert shown[4:6] == [("808 ms", "404 ms"), ("606 ms", "606 ms")]
    assert rows[4].outcome is Verdict.BETTER
    assert rows[5].outcome is Verdict.EQUIVALENT


def test_the_summary_has_a_table_of_the_effects_and_what_it_says() -> None:
    text = summary_text(RUN.judgements, width=110, colour=False, factorials=RUN.factorials)
    table = text.split("width x policy · heavy-tail · tiny-llama")[1]
    assert all(f"{ratio} [" in table for ratio in SHOWN)
    assert "The factors depend on each other" in table
    assert "width x policy" not in summary_text(RUN.judgements, width=110, colour=False)


def test_the_page_has_a_table_and_a_chart_of_the_effects() -> None:
    page = render_page(RUN)
    section = page.split("<h2>Factors</h2>")[1].split("</section>")[0]
    assert section.count('<td class="left verdict">') == 7
    assert section.count("<img ") == 1
    assert "<h2>Factors</h2>" not in render_page(run_with(better_case()))


def test_the_headline_is_on_the_factors_in_place_of_each_arm() -> None:
    sentence = headline(RUN.judgements, RUN.factorials)
    assert sentence == effects.headline(FACTORS)
    assert "policy queue is better than turn (0.71 [0.71, 0.71])" in sentence
    assert sentence.endswith("the two depend on each other.")
    assert all(one.treatment not in sentence for one in RUN.judgements if one.treatment)
    assert sentence in markdown(RUN).replace("\\", "")


def test_of_several_models_each_sentence_names_its_own() -> None:
    invalid = replace(FACTORS, models=("tiny-qwen",), invalid_reasons=("a replica is dead",))
    sentence = headline(RUN.judgements, (FACTORS, invalid))
    assert sentence.startswith("Scheduled TTFT p95, heavy-tail · tiny-llama: width 8 is ")
    assert sentence.endswith(
        "depend on each other. Scheduled TTFT p95, heavy-tail · tiny-qwen: nothing is concluded on"
        " width x policy: a replica is dead."
    )


def test_a_scenario_that_ended_before_it_had_effects_is_not_left_out() -> None:
    alone = better_case("capacity").judgement
    sentence = headline([*RUN.judgements, alone], RUN.factorials)
    assert sentence == f"{effects.headline(FACTORS)} {headline([alone])}"


def test_an_effect_without_a_ratio_is_not_said_to_be_so_many_times_as_high() -> None:
    """As where an arm rejects so much that its percentile has no bound."""
    width, policy = FACTORS.main
    width = replace(width, ratio=None, low=None, high=None, verdict=Verdict.INCONCLUSIVE)
    both = replace(
        FACTORS.interaction, ratio=None, low=None, high=None, verdict=Interaction.UNDECIDED
    )
    said = effects.findings(replace(FACTORS, main=(width, policy), interaction=both))
    assert said[0].startswith(
        "width: undecided whether 8 is better than 4, Scheduled TTFT p95 has no ratio on average"
    )
    assert said[2] == (
        "It is undecided whether the factors depend on each other: the interaction has no ratio."
    )


def test_the_chart_says_all_effects_to_those_who_do_not_see_it() -> None:
    picture = picture_of(FACTORS, RUN.setup)
    assert picture.title == "Effects on Scheduled TTFT p95"
    for row in effects.rows_of(FACTORS):
        assert f"{row.label.strip()} {row.ratio}, {row.outcome}" in picture.text


def test_a_test_in_the_allure_report_has_the_effects_with_its_comparison() -> None:
    fragment = render_factors(FACTORS, RUN.setup)
    assert fragment.count("<tr>") == 1 + 7
    assert "shown" in fragment
    assert "<style" not in fragment


def test_a_comment_on_github_has_them_too() -> None:
    text = markdown(RUN)
    (interaction,) = [line for line in text.splitlines() if line.startswith("| interaction")]
    assert interaction.endswith("| shown |")
    assert "\n- The factors depend on each other" in text
