"""The table at the end of a run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bench.analysis.judgement import Judgement, SloOutcome, Verdict
from bench.records import Slo
from reports.tables import FIGURES
from reports.terminal import summary_text
from tests.bench.making import with_readings
from tests.reports.cases import (
    better_case,
    failing_case,
    invalid_case,
    judged,
    one_arm_case,
    same_arm_case,
    scraped_case,
    unreadable_case,
    with_slo,
)


def plain(*judgements: Judgement, width: int = 100) -> str:
    return summary_text(judgements, width=width, colour=False)


def line_with(text: str, words: str) -> str:
    return next(line for line in text.splitlines() if words in line)


def test_a_metric_has_one_line_with_both_values_the_ratio_its_interval_and_the_verdict() -> None:
    line = line_with(plain(better_case().judgement), "Scheduled TTFT p95")
    assert "505 ms" in line
    assert "205 ms" in line
    assert "0.41 [0.36, 0.46]" in line
    assert line.rstrip().endswith("better")


def test_every_metric_of_every_scenario_has_a_line() -> None:
    text = plain(better_case("heavy-tail").judgement, better_case("burst").judgement)
    assert "heavy-tail · tiny-llama" in text
    assert "burst · tiny-llama" in text
    assert text.count("Scheduled TTFT p95") == 2
    assert text.count("Output throughput") == 2


def test_columns_are_headed_by_the_names_of_the_arms_and_the_level_of_the_interval() -> None:
    heading = line_with(plain(better_case().judgement), "verdict")
    assert heading.split() == [
        *("scenario", "/", "metric"),
        *("baseline", "managed", "ratio", "[99", "%", "CI]", "verdict"),
    ]


def test_a_long_name_of_an_arm_is_wrapped_at_a_hyphen() -> None:
    case = better_case()
    trials = [
        replace(one, arm="power-of-two") if one.role == "control" else one for one in case.trials
    ]
    lines = plain(judged(trials).judgement, width=80).splitlines()
    place = next(place for place, line in enumerate(lines) if "verdict" in line)
    assert lines[place - 1].split() == ["power-of-"]
    assert "two" in lines[place].split()


def test_the_servers_side_has_a_line_for_each_arm() -> None:
    text = plain(scraped_case().judgement, width=80)
    heading = text[text.index("server's side") :]
    values = {line.split()[0]: line.split()[1:] for line in heading.splitlines() if line.strip()}
    assert values["baseline"] == ["1.00", "2.00", "3", "4.00", "50.0", "%", "16", "25.0", "%"]
    assert values["managed"][:4] == ["1.00", "1.00", "1", "3.00"]
    assert max(map(len, text.splitlines())) <= 80


def test_without_readings_there_is_no_servers_side() -> None:
    assert "server's side" not in plain(better_case().judgement)


def test_only_the_primary_metric_is_marked() -> None:
    text = plain(better_case().judgement)
    assert line_with(text, "Scheduled TTFT p95").startswith("* ")
    assert line_with(text, "Output throughput").startswith("  ")


def test_an_arm_against_itself_is_called_noise_floor_and_its_columns_differ() -> None:
    text = plain(same_arm_case().judgement)
    assert "noise floor (A/A): baseline against itself" in text
    assert "baseline" in line_with(text, "verdict")
    assert "again" in line_with(text, "verdict")


def test_a_missed_slo_shows_both_arms_beside_the_target() -> None:
    judgement = with_slo(better_case().judgement, SloOutcome.MISSED, 0.812)
    line = line_with(plain(judgement), "SLO attainment")
    assert "100.0 %" in line
    assert "81.2 %" in line
    assert "target 90 %" in line
    assert line.rstrip().endswith("missed")


def test_objectives_are_told_once_for_the_scenarios_that_share_them() -> None:
    text = plain(better_case("heavy-tail").judgement, better_case("burst").judgement)
    line = line_with(text, "TTFT ≤ 1 s")
    assert "heavy-tail, burst" in line
    assert text.count("TTFT ≤ 1 s") == 1


def test_objectives_of_models_that_differ_are_told_by_model() -> None:
    judgement = better_case("burst", ("tiny-llama", "tiny-qwen")).judgement
    slos = {"tiny-llama": Slo(ttft_s=1.0), "tiny-qwen": Slo(ttft_s=3.0)}
    text = plain(replace(judgement, scenario=replace(judgement.scenario, slos=slos)))
    assert "burst · tiny-llama" in line_with(text, "TTFT ≤ 1 s")
    assert "burst · tiny-qwen" in line_with(text, "TTFT ≤ 3 s")


def test_reasons_for_invalidity_stand_below_the_table_with_their_scenario() -> None:
    text = plain(invalid_case("dispatch lag p99 is 212 ms, limit 50 ms").judgement)
    assert line_with(text, "Scheduled TTFT p95").rstrip().endswith("invalid")
    assert "burst · tiny-llama: dispatch lag p99 is 212 ms, limit 50 ms" in text


def test_notes_and_reasons_without_a_verdict_stand_below_the_table() -> None:
    case = better_case()
    primary, *others = case.judgement.comparisons
    unsure = replace(primary, reasons=("2 of 4 blocks have no finite ratio",))
    text = plain(
        replace(case.judgement, comparisons=(unsure, *others), notes=("one block was cut short",))
    )
    assert "heavy-tail · tiny-llama: one block was cut short" in text
    assert "Scheduled TTFT p95: 2 of 4 blocks have no finite ratio" in text


@pytest.mark.parametrize(
    ("value", "words"), [(None, "no data"), (math.nan, "no data"), (math.inf, "unbounded")]
)
def test_a_value_that_is_no_number_is_told_in_words(value: float | None, words: str) -> None:
    judgement = better_case().judgement
    primary, *others = judgement.comparisons
    odd = replace(primary, treatment_value=value, ratio=None, low=None, high=None)
    line = line_with(plain(replace(judgement, comparisons=(odd, *others))), "Scheduled TTFT p95")
    assert words in line
    assert "no ratio" in line


def test_an_arm_that_failed_every_request_is_shown_and_not_a_crash() -> None:
    line = line_with(plain(failing_case().judgement), "Scheduled TTFT p95")
    assert "unbounded" in line


def test_unlike_shares_of_failed_requests_stand_below_the_primary_metric() -> None:
    text = plain(failing_case().judgement, width=80)
    lines = text.splitlines()
    place = next(index for index, line in enumerate(lines) if "Scheduled TTFT p95" in line)
    assert lines[place + 1].split() == ["failed", "requests", "25.00", "%", "100.00", "%"]
    assert text.count("failed requests") == 1


def test_equal_shares_of_failed_requests_have_no_line() -> None:
    assert "failed requests" not in plain(better_case().judgement)


def test_one_arm_alone_has_no_column_of_the_other() -> None:
    text = plain(one_arm_case().judgement)
    assert "baseline alone" in text
    assert "managed" not in text
    assert "505 ms" in line_with(text, "Scheduled TTFT p95")


@pytest.mark.parametrize("width", [20, 80, 120])
def test_it_fits_the_terminal_from_80_columns_on(width: int) -> None:
    long = "a-scenario-with-quite-a-long-name-indeed"
    models = ("tiny-llama", "tiny-qwen", "tiny-mistral")
    text = plain(
        better_case(long, models).judgement,
        invalid_case("the load generator was too slow " * 9).judgement,
        width=width,
    )
    assert max(map(len, text.splitlines())) <= max(width, 80)
    assert "better" in text
    assert "invalid" in text


def test_nothing_is_clipped_at_80_columns_with_long_names_of_arms() -> None:
    trials = [
        replace(one, arm="queue-depth" if one.role == "treatment" else one.arm)
        for one in better_case("multi-tenant").trials
    ]
    (primary, *others) = judged(trials).judgement.comparisons
    unsure = replace(primary, ratio=0.53, low=0.29, high=0.97, verdict=Verdict.INCONCLUSIVE)
    judgement = replace(judged(trials).judgement, comparisons=(unsure, *others))
    line = line_with(plain(judgement, width=80), "Scheduled TTFT p95")
    assert "0.53 [0.29, 0.97]" in line
    assert line.rstrip().endswith("inconclusive")
    assert "queue-depth" in plain(judgement, width=80)


def test_servers_that_could_not_be_read_clip_no_column_at_80_columns() -> None:
    one = replace(unreadable_case().trials[0].server[1], replica="tiny-llama-0")
    trials = [replace(trial, server=(one,)) for trial in unreadable_case().trials]
    text = plain(judged(trials).judgement, width=80)
    row = next(line for line in text.splitlines() if line.startswith("  baseline "))
    assert row.split()[1:] == ["1.00", *["-"] * (len(FIGURES) - 1)]
    assert all(word in text for long, _ in FIGURES for word in long.split())


def test_a_queue_that_is_nearly_always_empty_clips_no_column_at_80_columns() -> None:
    levels = {"waiting": (0.00246, 0.0), "kv_cache_usage": (0.196, 0.1), "running": (2.91, 2.82)}
    counts = {"prefix_queries": (320.0, 320.0), "prefix_hits": (160.0, 0.0)}
    trials = [with_readings(one, levels | counts) for one in better_case().trials]
    text = plain(judged(trials).judgement, width=80)
    assert all(word in text for long, _ in FIGURES for word in long.split())
    row = line_with(text[text.index("server's side") :], "  baseline ")
    assert "0.00123" in row
    assert row.rstrip().endswith("25.0 %")


def test_of_several_models_each_has_a_line_below_that_of_them_all() -> None:
    case = better_case("multi-tenant", ("tiny-llama", "tiny-qwen"))
    lines = plain(case.judgement).splitlines()
    place = next(index for index, line in enumerate(lines) if "Scheduled TTFT p95" in line)
    assert lines[place + 1].split()[:2] == ["of", "tiny-llama"]
    assert lines[place + 2].split()[:2] == ["of", "tiny-qwen"]
    assert any("SLO, tiny-qwen" in line for line in lines)


def test_names_with_brackets_are_shown_as_they_are() -> None:
    text = plain(better_case("[bold]x[/bold]").judgement)
    assert "[bold]x[/bold] · tiny-llama" in text


def test_colour_only_where_it_is_wanted() -> None:
    judgements = [better_case().judgement]
    assert "\x1b[" in summary_text(judgements, width=100, colour=True)
    assert "\x1b[" not in summary_text(judgements, width=100, colour=False)


def test_a_run_without_measurements_says_so() -> None:
    assert plain() == "nothing was measured\n"
