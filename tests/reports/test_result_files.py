"""The files of a run beside its test results."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from reports.result_files import category_rules, clear, comparisons_csv, properties, write_run
from tests.reports.cases import better_case, failing_case, run_with, same_arm_case


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((folder / "bench-perf.json").read_text("utf-8"))
    return loaded


def test_the_environment_keeps_names_and_values_with_special_characters() -> None:
    facts = {"The model": "a=b: c", "Folder": "C:\\x", "Lines": "one\ntwo"}
    assert properties(facts) == "The\\ model=a=b: c\nFolder=C:\\\\x\nLines=one\\ntwo\n"


def test_metrics_have_a_value_for_each_arm_in_units_that_keep_their_digits(tmp_path: Path) -> None:
    write_run(tmp_path, run_with(better_case()))
    values = {one["title"]: (one["value"], one["unit"]) for one in metrics_of(tmp_path)}
    assert values["Scheduled TTFT p95, baseline"] == (pytest.approx(505.0), "ms")
    assert values["Scheduled TTFT p95, managed"] == (pytest.approx(205.0), "ms")
    assert values["Output throughput, managed"][1] == "tok/s"


def test_metrics_have_the_ratio_of_each_comparison(tmp_path: Path) -> None:
    case = better_case("multi-tenant", ("tiny-llama", "tiny-qwen"))
    write_run(tmp_path, run_with(case))
    ratios = {one["title"]: one["value"] for one in metrics_of(tmp_path) if "ratio" in one["title"]}
    primary = case.judgement.primary
    assert primary is not None
    assert ratios["Scheduled TTFT p95, ratio managed / baseline"] == primary.ratio
    assert len(ratios) == 2  # not those of single models


def test_the_executor_is_the_machine_and_the_run(tmp_path: Path) -> None:
    write_run(tmp_path, run_with(better_case(), facts={"Machine": "a CPU", "Run": "20260131-1"}))
    written = json.loads((tmp_path / "executor.json").read_text("utf-8"))
    assert written == {"name": "a CPU", "buildName": "20260131-1"}


def test_metrics_say_which_direction_is_better(tmp_path: Path) -> None:
    write_run(tmp_path, run_with(better_case()))
    better = {one["title"]: one["better"] for one in metrics_of(tmp_path)}
    assert better["Scheduled TTFT p95, managed"] == "lower"
    assert better["Output throughput, managed"] == "higher"


def test_the_arms_of_an_a_a_run_have_metrics_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path, run_with(same_arm_case()))
    keys = [one["key"] for one in metrics_of(tmp_path)]
    assert len(keys) == len(set(keys)) == 6


def test_values_that_are_no_numbers_are_left_out_of_the_metrics(tmp_path: Path) -> None:
    write_run(tmp_path, run_with(failing_case()))
    metrics = metrics_of(tmp_path)
    assert all(math.isfinite(one["value"]) for one in metrics)
    assert "Scheduled TTFT p95, managed" not in {one["title"] for one in metrics}


def test_categories_are_written_in_the_order_in_which_they_are_tried(tmp_path: Path) -> None:
    write_run(tmp_path, run_with(better_case()))
    written = json.loads((tmp_path / "categories.json").read_text("utf-8"))
    assert [one["name"] for one in written] == [one["name"] for one in category_rules()]
    assert {tuple(one["matchedStatuses"]) for one in written} == {("failed", "broken")}


def test_a_folder_that_cannot_be_cleared_is_told_in_one_line(small_disk: Path) -> None:
    file = small_disk / "a-result.json"
    file.write_text("{}")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError, match=rf"^cannot write {file}: Read-only file system; free"):
        clear(small_disk)


def test_clearing_leaves_what_is_not_allures(tmp_path: Path) -> None:
    write_run(tmp_path, run_with(better_case()))
    for name in ("u-result.json", "u-container.json", "u-globals.json", "u-attachment.svg"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    clear(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]


def test_clearing_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    clear(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_table_of_comparisons_can_be_read_back() -> None:
    judged = better_case().judgement
    first, *_ = judged.comparisons
    odd = replace(first, models=("a", "b"), reasons=('with "quotes", and commas',), ratio=None)
    again = replace(judged, comparisons=(odd,), round=2)
    (row,) = csv.DictReader(io.StringIO(comparisons_csv([again])))
    assert row["round"] == "2"
    assert row["metric"] == "scheduled_ttft_p95_s"
    assert row["models"] == "a, b"
    assert row["ratio"] == ""
    assert row["reasons"] == 'with "quotes", and commas'
    assert float(row["control_value"]) == first.control_value
