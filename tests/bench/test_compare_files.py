"""`python -m bench compare A B` on results that other tools really wrote."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from bench.drivers.artifacts.reading import read_runs
from tests.bench.results_of_tools import (
    DETAILED,
    PLAIN,
    RATE,
    RESULTS,
    VLLM,
    Compared,
    change,
    compared,
    result_in,
    sides,
)

AIPERF, GUIDELLM = RESULTS / "aiperf-0.13.0", RESULTS / "guidellm-0.8.1"
INFERENCE_PERF, SGLANG = RESULTS / "inference-perf-0.7.0", RESULTS / "sglang-bench-0.5.23"
LLMD = RESULTS / "llmd-benchmark-report-0.2.1"


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> partial[Compared]:
    return partial(compared, capsys, tmp_path / "results")


@pytest.mark.parametrize(
    ("source", "tool", "count"),
    [
        (DETAILED, "vllm bench serve", 3),
        (PLAIN, "vllm bench serve", 2),
        (RATE, "vllm bench serve", 2),
        (AIPERF, "aiperf", 2),
        (GUIDELLM, "guidellm", 2),
        (INFERENCE_PERF, "inference-perf", 2),
        (SGLANG, "sglang.bench_serving", 2),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_each_tool_is_recognised_and_compared(
    compare: partial[Compared], tmp_path: Path, source: Path, tool: str, count: int
) -> None:
    a, b = sides(source, tmp_path / "in", count)
    seen = compare(a, b)
    assert (seen.code, seen.err) == (3, "")
    assert seen.written["run"]["Tool"].startswith(tool)
    assert "ttft_p" in seen.primary["metric"]
    assert seen.primary["over"] == "pairs of runs"
    assert seen.primary["blocks"] == count
    names = {one["metric"] for one in seen.case["comparisons"]}
    assert {"output_tps", "throughput_rps"} <= names
    assert {one["direction"] for one in seen.case["comparisons"]} == {"lower", "higher"}
    page = seen.file.with_suffix(".html").read_text()
    assert "B against A" in page
    assert "one run of it is one observation" in page
    assert seen.written["run"]["provenance"]["files"]["control"]


@pytest.mark.parametrize("path", sorted(LLMD.glob("*.yaml")), ids=lambda path: path.name)
def test_reports_of_llm_d_are_read_in_both_versions(path: Path) -> None:
    (run,) = read_runs(path).runs
    assert run.tool.startswith("llm-d report of ")
    assert {"ttft_p50_s", "throughput_rps", "output_tps"} <= run.values.keys()
    assert 0.001 < run.values["ttft_p50_s"] < 1.0
    assert run.requests >= 16


def test_all_readers_agree_with_the_report_that_llm_d_made_of_the_same_run() -> None:
    (ours,) = read_runs(GUIDELLM / "A" / "1").runs
    (theirs,) = read_runs(LLMD / "from-guidellm-A-1.v0.2_0.yaml").runs
    for name in ("ttft_p95_s", "e2e_p95_s", "output_tps", "throughput_rps"):
        assert ours.values[name] == pytest.approx(theirs.values[name])
    assert ours.load == theirs.load


@pytest.mark.parametrize(
    ("folder", "version"), [("aiperf-0.8.0", "0.8.0"), ("guidellm-0.5.4", "0.5.4")]
)
def test_older_versions_are_read(folder: str, version: str) -> None:
    (run,) = read_runs(RESULTS / folder / "A").runs
    assert (run.version, run.models) == (version, ("tiny-llama",))
    assert {"ttft_p95_s", "tpot_p50_s", "e2e_p95_s", "output_tps"} <= run.values.keys()


def test_versions_that_differ_are_said_with_what_is_missing(compare: partial[Compared]) -> None:
    seen = compare(
        RESULTS / "aiperf-0.8.0" / "A", AIPERF / "B" / "1" / "profile_export_aiperf.json"
    )
    assert "the tool's versions differ: 0.8.0 and 0.13.0" in seen.notes
    assert "not compared, for not all files have them: error_rate" in seen.notes


def test_units_are_the_same_whatever_the_tool_wrote() -> None:
    (run,) = read_runs(PLAIN / "A" / "1").runs
    report = result_in(PLAIN / "A" / "1").read_text()
    assert f'"mean_ttft_ms": {run.values["ttft_mean_s"] * 1000:.6f}'[:22] in report
    assert run.duration_s is not None
    assert run.values["throughput_rps"] == pytest.approx(run.requests / run.duration_s)
    assert run.values["output_tps"] == pytest.approx(16 * run.requests / run.duration_s)


def test_recorded_requests_are_computed_by_the_definitions_here(
    compare: partial[Compared], tmp_path: Path
) -> None:
    seen = compare(*sides(DETAILED, tmp_path, 2))
    assert "computed again from the recorded times" in seen.notes
    # vllm bench gives p99 alone unless it is asked for more
    assert {"ttft_p90_s", "e2e_p90_s"} <= {one["metric"] for one in seen.case["comparisons"]}
    assert "distribution" in seen.file.with_suffix(".html").read_text()


def test_a_closed_loop_has_no_schedule_and_an_open_one_has(
    compare: partial[Compared], tmp_path: Path
) -> None:
    closed, open_loop = (
        {one["metric"] for one in compare(*sides(source, tmp_path / name)).case["comparisons"]}
        for name, source in (("closed", DETAILED), ("open", RATE))
    )
    assert not any(name.startswith("scheduled") for name in closed)
    assert "scheduled_ttft_p50_s" in open_loop


def test_failed_requests_are_not_left_out(compare: partial[Compared]) -> None:
    seen = compare(VLLM / "failures" / "A", VLLM / "failures" / "B")
    assert seen.code == 4
    assert "16.7% of its requests failed, bound 2.0%" in seen.case["invalid_reasons"][0]
    assert seen.primary["verdict"] == "invalid"
    assert seen.primary["control_failed"] == pytest.approx(4 / 24)


def test_one_run_a_side_gives_figures_and_no_verdict(compare: partial[Compared]) -> None:
    seen = compare(PLAIN / "A" / "1", PLAIN / "B" / "1")
    assert seen.code == 3
    assert "[no interval]" in seen.out
    assert "nothing tells how much runs differ" in seen.out
    assert "treatment" not in seen.primary["verdict"]
    assert {one["verdict"] for one in seen.case["comparisons"]} == {"inconclusive"}
    assert compare(PLAIN / "A" / "1", PLAIN / "B" / "1", "--undecided", "pass").code == 0


def test_noise_that_leaves_a_loss_open_is_undecided_and_what_is_shown_has_its_outcome(
    compare: partial[Compared], tmp_path: Path
) -> None:
    a, b = sides(DETAILED, tmp_path, 3)
    noise, worse = (compare(a, b, "--metric", name) for name in ("ttft_p50_s", "itl_p50_s"))
    assert (noise.primary["verdict"], noise.code) == ("inconclusive", 3)
    assert "outcome: undecided" in noise.out
    assert (worse.primary["verdict"], worse.code) == ("worse", 1)
    better = compare(b, a, "--metric", "itl_p50_s", "--expect", "better")
    assert (better.primary["verdict"], better.code) == ("better", 0)
    a, b = sides(RATE, tmp_path / "rate", 2)
    alike = compare(a, b, "--metric", "output_tps")
    assert (alike.primary["verdict"], alike.code) == ("equivalent", 0)


def test_runs_without_pairs_are_judged_by_welchs_interval(
    compare: partial[Compared], tmp_path: Path
) -> None:
    a, b = sides(DETAILED, tmp_path, 3)
    (b / "1").rename(b / "other")
    seen = compare(a, b)
    assert "3 and 3 runs, no pairs known: the interval is Welch's" in seen.notes
    assert seen.primary["over"] == "runs a side"


def test_more_files_a_side_are_given_by_options(compare: partial[Compared]) -> None:
    files = {side: [result_in(PLAIN / side / one) for one in "12"] for side in "AB"}
    typed = [
        part
        for role, side in (("--control", "A"), ("--treatment", "B"))
        for file in files[side]
        for part in (role, file)
    ]
    seen = compare(*typed)
    assert seen.err == ""
    assert (seen.primary["control"], seen.primary["treatment"]) == ("control", "treatment")
    assert seen.primary["blocks"] == 2


def test_labels_in_the_files_make_pairs(compare: partial[Compared], tmp_path: Path) -> None:
    a, b = sides(DETAILED, tmp_path, 3)
    for side, pairs in ((a, "123"), (b, "312")):
        for number, pair in enumerate(pairs, start=1):
            change(result_in(side / str(number)), partial(dict.update, pair=pair))
    seen = compare(a, b)
    assert "3 pairs of runs, by the labels in the files" in seen.notes


def test_loads_make_pairs_where_each_side_has_each_once(
    compare: partial[Compared], tmp_path: Path
) -> None:
    a, b = sides(DETAILED, tmp_path, 1)
    for side, other in ((a, RATE / "A" / "1"), (b, RATE / "B" / "1")):
        shutil.copytree(other, side / "rate")
    seen = compare(a, b)
    assert "2 pairs of runs, by their loads" in seen.notes


def test_loads_with_several_runs_are_compared_each_on_its_own(
    compare: partial[Compared], tmp_path: Path
) -> None:
    a, b = sides(DETAILED, tmp_path, 2)
    for side, letter in ((a, "A"), (b, "B")):
        for number in "12":
            shutil.copytree(RATE / letter / number, side / f"rate-{number}")
    seen = compare(a, b)
    names = [one["scenario"] for one in seen.written["scenarios"]]
    assert names == [
        "concurrency 8",
        "concurrency 8, 10 req/s",
    ]


def test_the_primary_metric_and_the_expectation_may_be_chosen(
    compare: partial[Compared], tmp_path: Path
) -> None:
    a, b = sides(DETAILED, tmp_path, 3)
    chosen = compare(a, b, "--metric", "tpot_p50_s", "--expect", "better")
    assert chosen.primary["metric"] == "tpot_p50_s"
    assert chosen.case["expect"] == "better"
    assert chosen.code in (1, 3)
    few = compare(a, b, "--metric", "ttft_p95_s")
    assert few.code == 4
    assert few.case["invalid_reasons"][0].startswith("ttft_p95_s: a run has 32 values of it")


def test_swapping_the_sides_mirrors_every_verdict(
    compare: partial[Compared], tmp_path: Path
) -> None:
    a, b = sides(DETAILED, tmp_path, 3)
    mirrored = {"better": "worse", "worse": "better"}
    one, other = compare(a, b).case["comparisons"], compare(b, a).case["comparisons"]
    assert [mirrored.get(it["verdict"], it["verdict"]) for it in one] == [
        it["verdict"] for it in other
    ]


def test_one_side_before_the_other_is_said(compare: partial[Compared], tmp_path: Path) -> None:
    a, b = sides(PLAIN, tmp_path, 2)
    by_turns = compare(a, b)
    assert "measured before" not in by_turns.notes
    for number in "12":
        change(result_in(b / number), lambda it: it.update(date="20270101-000000"))
    assert "all runs of the control were measured before those of the treatment" in (
        compare(a, b).notes
    )


def test_the_same_files_on_both_sides_are_said(compare: partial[Compared]) -> None:
    seen = compare(PLAIN / "A", PLAIN / "A")
    assert seen.code == 0
    assert "on both sides there are the same files" in seen.notes
    assert seen.primary["ratio"] == 1.0


def test_what_repeats_a_run_or_is_none_is_left_out_and_said(
    compare: partial[Compared], tmp_path: Path
) -> None:
    found = read_runs(AIPERF / "with-warm-up")
    assert [len(run.entries) for run in found.runs] == [16]
    assert {path.parent.name for path in found.repeated} == {"warmup", "profiling"}
    (tmp_path / "A").mkdir()
    (tmp_path / "B").mkdir()
    a, b = sides(INFERENCE_PERF, tmp_path / "in", 2)
    (a / "notes.txt").write_bytes(b"\xff\x00 not a result")
    seen = compare(a, b)
    assert "4 files repeat or sum up what other files hold" in seen.notes
    assert "notes.txt" in seen.notes
    assert "figures of the files have no counterpart here" in seen.notes


def test_several_results_in_one_file_are_several_runs(
    compare: partial[Compared], tmp_path: Path
) -> None:
    for side in "AB":
        texts = [result_in(SGLANG / side / number).read_text() for number in "12"]
        (tmp_path / f"{side}.jsonl").write_text("".join(texts))
    seen = compare(tmp_path / "A.jsonl", tmp_path / "B.jsonl")
    assert (seen.err, seen.primary["blocks"]) == ("", 2)
