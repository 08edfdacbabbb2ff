"""Results that cannot be compared: one line with what was wrong, and exit code 2."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.drivers.artifacts import reading
from tests.bench.results_of_tools import (
    DETAILED,
    PLAIN,
    RATE,
    RESULTS,
    Compared,
    change,
    compared,
    result_in,
    sides,
)


class Refused(partial[Compared]):
    """Compares, and returns the one line of the error."""

    def __call__(self, *typed: Any) -> str:  # type: ignore[override]
        seen = super().__call__(*typed)
        assert seen.code == 2
        assert seen.out == ""
        (line,) = seen.err.splitlines()
        assert line.startswith("error: ")
        return line


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    return Refused(compared, capsys, tmp_path / "results")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return sides(PLAIN, tmp_path / "in", 2)


def test_paths_that_are_missing_empty_or_no_files(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert "nothere is no file and no folder" in refused(tmp_path / "nothere", PLAIN)
    assert "holds no result: the folder is empty; known are vllm" in refused(
        PLAIN / "A", tmp_path / "empty"
    )
    assert "pipe is no file" in refused(tmp_path / "pipe", PLAIN / "A")
    assert "cannot read" in refused("x" * 5000, PLAIN / "A")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["A"], "two paths, A and B, seen 1; give more a side with --control PATH"),
        (["A", "B", "C"], "two paths, A and B, seen 3"),
        (["A", "B", "--control", "C"], "not both"),
        (["--control", "A"], "nothing was given for the treatment; give --treatment PATH"),
        (["A", "B", "--run", "x"], "--run names a stored run, and files were given, too"),
        (["A", "B", "--expect", "worse"], "--expect takes better or not-worse, seen 'worse'"),
    ],
)
def test_sides_that_are_not_two(refused: Refused, typed: list[str], message: str) -> None:
    assert message in refused(*typed)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", b"", "it is empty"),
        ("run.json", b"\x00\x01\x02\x03", "it is binary"),
        ("run.json", b'{"model_id": "\xff"', "not UTF-8"),
        ("run.json", b'{"model_id": 1, "num_prompts": 2, "completed": 3}', "request_rate Field"),
        ("run.txt", b"\x00\x01\x02\x03", "holds no result: 1 file (run.txt); known are"),
        ("run.txt", b"TTFT 12 ms", "holds no result"),
        ("run.json", b'{"ttft": 12}', "holds no result"),
        ("run.json", b"[1, 2]", "holds no result"),
        ("run.yaml", b"version: 0.2\nscenario: [", "is damaged"),
        ("run.json", b'{"a":' * 100_000, "is damaged"),
    ],
)
def test_files_that_are_no_results(
    refused: Refused, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert message in refused(PLAIN / "A", path)


@pytest.mark.parametrize(
    "path",
    [
        PLAIN / "A" / "1",
        DETAILED / "A" / "1",
        RESULTS / "guidellm-0.8.1" / "A" / "1",
        RESULTS / "sglang-bench-0.5.23" / "A" / "1",
        RESULTS / "aiperf-0.8.0" / "A" / "1",
    ],
    ids=lambda path: path.parts[-3],
)
def test_a_half_written_result_is_not_left_out(
    refused: Refused, tmp_path: Path, path: Path
) -> None:
    whole = result_in(path)
    half = tmp_path / "A" / whole.name
    half.parent.mkdir()
    shutil.copytree(path, tmp_path / "A" / "whole")
    half.write_text(whole.read_text()[: whole.stat().st_size // 2])
    assert f"{half} is damaged" in refused(tmp_path / "A", path)
    assert "was it written to its end?" in refused(tmp_path / "A", path)


def test_a_huge_file_is_not_read(
    refused: Refused, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LARGEST_MB", 0.001)
    assert "MB, at most" in refused(*pair)


def test_two_tools_do_not_compare(refused: Refused, pair: tuple[Path, Path]) -> None:
    sglang = RESULTS / "sglang-bench-0.5.23" / "B"
    assert "tools measure differently" in refused(pair[0], sglang)
    shutil.copytree(sglang, pair[1] / "sglang")
    line = refused(*pair)
    assert "is of vllm bench serve" in line
    assert "is of sglang.bench_serving" in line


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda it: it.update(model_id="other/model"), "models differ: control has tiny-llama,"),
        (lambda it: it.update(max_concurrency=4), "loads differ: control has concurrency 8"),
        (lambda it: it.update(request_rate=5.0), "loads differ"),
        (lambda it: it.update(total_input_tokens=9000), "mean tokens of a prompt differ: 8"),
        (lambda it: it.update(total_output_tokens=9000), "mean tokens of an answer differ: 16 in"),
    ],
)
def test_models_and_loads_that_differ(
    refused: Refused,
    pair: tuple[Path, Path],
    edit: Callable[[dict[str, Any]], object],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    for number in "12":
        change(result_in(pair[1] / number), edit)
    line = refused(*pair)
    assert message in line
    assert "or give --allow-unlike" in line
    allowed = compared(capsys, tmp_path / "results", *pair, "--allow-unlike")
    assert allowed.err == ""
    # Within one side it is refused as well.
    change(result_in(pair[1] / "1"), lambda it: it.update(max_concurrency=16))
    refused(*pair)


def test_a_warm_up_among_results(refused: Refused, pair: tuple[Path, Path]) -> None:
    (pair[0] / "2").rename(pair[0] / "warm-up")
    assert "is a warm-up by its name; take it out of the control" in refused(*pair)


def test_a_run_with_few_requests_among_results(refused: Refused, pair: tuple[Path, Path]) -> None:
    path = result_in(pair[1] / "2")
    few = {"completed": 8, "num_prompts": 8, "total_input_tokens": 650, "total_output_tokens": 128}
    change(path, lambda it: it.update(few))
    line = refused(*pair)
    assert f"{path} has 8 requests, the median of its load is 32" in line


def test_a_run_counts_once(refused: Refused, pair: tuple[Path, Path]) -> None:
    path = result_in(pair[0] / "1")
    typed = ("--control", path, "--control", path, "--treatment", pair[1])
    assert "is given twice for the control" in refused(*typed)
    typed = ("--control", pair[0], "--control", path, "--treatment", pair[1])
    assert "is given twice for the control" in refused(*typed)
    shutil.copy(path, pair[0] / "2" / "copy.json")
    assert "copy.json is the same as" in refused(*pair)


def test_metrics_that_not_all_files_have(
    refused: Refused, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def without(part: str) -> Callable[[dict[str, Any]], object]:
        return lambda it: [it.pop(name) for name in list(it) if part in name]

    for number in "12":
        change(result_in(pair[1] / number), without("_ttft_"))
    assert "does not have ttft_p50_s; it has e2e_" in refused(*pair, "--metric", "ttft_p50_s")
    seen = compared(capsys, tmp_path / "results", *pair)
    assert seen.primary["metric"].startswith("e2e")
    assert "not compared, for not all files have them: ttft_mean_s" in seen.notes
    assert "did you mean 'ttft_p50_s'" in refused(*pair, "--metric", "ttft_p50")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_left_out_and_said(
    pair: tuple[Path, Path], value: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = result_in(pair[0] / "1")
    change(path, lambda it: it.update(p90_ttft_ms=float(value)))
    assert value in path.read_text()
    seen = compared(capsys, tmp_path / "results", *pair)
    assert seen.primary["metric"] == "ttft_p50_s"
    assert "not compared, for not all files have them: ttft_p90_s" in seen.notes


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda it: it.update(mean_e2el_ms=it["mean_e2el_ms"] * 1000), "is its unit right?"),
        (
            lambda it: it.update({k: it[k] / 1000 for k in it if k.endswith("_e2el_ms")}),
            "requests in flight at concurrency 8: are the units right?",
        ),
        (lambda it: it.update(mean_ttft_ms=-1.0), "which is less than nothing"),
        (lambda it: it.update(p99_ttft_ms=0.001), "the percentiles of ttft fall"),
        (lambda it: it.update(completed=-5), "requests Input should be greater than or equal to 0"),
        (lambda it: it.update(total_input_tokens=10**400), "is damaged"),
        (lambda it: it.update(mean_ttft_ms="12 ms"), ""),
    ],
)
def test_values_that_cannot_be(
    refused: Refused,
    pair: tuple[Path, Path],
    edit: Callable[[dict[str, Any]], object],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path = change(result_in(pair[0] / "1"), edit)
    if message:
        line = refused(*pair)
        assert str(path) in line
        assert message in line
    else:  # text where a number was: the metric is absent
        assert "ttft_mean_s" in compared(capsys, tmp_path / "results", *pair).notes


@pytest.mark.parametrize(
    ("source", "edit", "message"),
    [
        (
            RESULTS / "aiperf-0.8.0",
            lambda it: it["time_to_first_token"].update(unit="fortnights"),
            "time_to_first_token is in 'fortnights', which is no unit of time",
        ),
        (
            RESULTS / "guidellm-0.5.4",
            lambda it: it["benchmarks"][0].pop("metrics"),
            "metrics Field",
        ),
        (
            RESULTS / "inference-perf-0.7.0",
            lambda it: it["successes"].pop("latency"),
            "successes.latency Field required (known are inference-perf 0.2 to 0.7)",
        ),
    ],
)
def test_unknown_versions_and_units_say_what_is_missing(
    refused: Refused,
    tmp_path: Path,
    source: Path,
    edit: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    a, b = sides(source, tmp_path / "in", 1)
    change(next(iter(sorted(a.rglob("*.json")))), edit)
    assert message in refused(a, b)


def test_seconds_on_one_side_and_milliseconds_on_the_other(
    refused: Refused, pair: tuple[Path, Path]
) -> None:
    for number in "12":
        change(
            result_in(pair[1] / number),
            lambda it: it.update({k: it[k] / 1000 for k in it if k.endswith("_ttft_ms")}),
        )
    assert "are both in the same unit?; or give --allow-unlike" in refused(*pair)


@pytest.mark.parametrize("name", [b"run\xff.json", b"run\n.json"])
def test_a_name_that_cannot_be_shown(
    refused: Refused, tmp_path: Path, pair: tuple[Path, Path], name: bytes
) -> None:
    (pair[0] / os.fsdecode(name)).write_text(result_in(pair[0] / "1").read_text())
    assert "cannot be shown as it is; rename it" in refused(*pair)


def test_a_unit_of_llm_d_that_is_no_time(refused: Refused, tmp_path: Path) -> None:
    report = RESULTS / "llmd-benchmark-report-0.2.1" / "from-guidellm-A-1.v0.2_0.yaml"
    changed = tmp_path / "report.yaml"
    changed.write_text(report.read_text().replace("units: s\n", "units: m\n"))
    assert "is in 'm', which is no unit of time" in refused(changed, report)


def test_a_rate_is_part_of_the_load(refused: Refused) -> None:
    line = refused(DETAILED / "A", RATE / "B")
    assert "loads differ: control has concurrency 8; treatment has concurrency 8, 10 req/s" in line


def test_json_is_read_whatever_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    for side in pair:
        for number in "12":
            result_in(side / number).rename(side / number / "outcome.out")
    assert compared(capsys, tmp_path / "results", *pair).err == ""
    assert json.loads((pair[0] / "1" / "outcome.out").read_text())["completed"] == 32
