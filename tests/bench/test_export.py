"""`python -m bench compare --format`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.analysis.judgement import Case
from bench.cli.commands import main
from bench.cli.export import export
from bench.cli.review import started, stored_run
from bench.config.options import FORMATS
from bench.errors import UserError
from bench.store import TrialStore, write_latest
from reports.page import render_page
from tests.bench.making import paired
from tests.reports.cases import better_case, run_with

BETTER, WORSE, UNDECIDED = (0.3, 0.3, 0.31, 0.32), (2.0, 2.1, 2.0, 1.9), (0.7, 1.1, 0.8, 0.9)


def stored(folder: Path, treatment_s: tuple[float, ...] = BETTER) -> Path:
    for one in paired((1.0,) * len(treatment_s), treatment_s):
        TrialStore(folder).save(replace(one, provenance={"profile": "auto", "arguments": []}))
    return folder


def compare(results: Path, *options: str) -> int:
    return main(["compare", "--results", str(results), *options])


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "llmd"])
def test_a_file_has_what_is_printed_and_the_summary_is_printed_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    results, file = stored(tmp_path / "results"), tmp_path / "new" / "run"
    assert compare(results, "--format", name) == 0
    printed = capsys.readouterr().out
    assert compare(results, "--format", name, "--output", str(file)) == 0
    assert file.read_text("utf-8") == printed
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "managed against baseline"
    assert lines[-2:] == [f"{name}: {file}", "outcome: held (1 held)"]


def test_json_is_what_a_run_writes_to_latest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = stored(tmp_path)
    run = stored_run(TrialStore(results))
    latest = tmp_path / "latest.json"
    write_latest(latest, run.judgements, {**run.facts, "provenance": run.provenance})
    compare(results, "--format", "json")
    printed = capsys.readouterr().out
    assert printed == latest.read_text("utf-8")
    assert json.loads(printed)["outcome"] == "held"


def test_csv_has_a_row_for_each_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(stored(tmp_path), "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["metric"] for row in rows] == ["scheduled_ttft_p95_s", "output_tps"]
    assert float(rows[0]["low"]) < float(rows[0]["ratio"]) < float(rows[0]["high"])


def test_csv_of_an_arm_alone_is_a_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in paired((1.0,) * 4, (1.0,) * 4):
        if one.role == "control":
            TrialStore(tmp_path).save(one)
    assert compare(tmp_path, "--format", "csv") == 0
    (header,) = capsys.readouterr().out.splitlines()
    assert header.startswith("scenario,models,metric,")


def test_html_is_the_comparison_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(stored(tmp_path), "--format", "html")
    assert capsys.readouterr().out == render_page(stored_run(TrialStore(tmp_path)))


@pytest.mark.parametrize(
    ("treatment_s", "options", "code", "failures"),
    [
        (BETTER, [], 0, "0"),
        (WORSE, [], 1, "1"),
        (UNDECIDED, [], 3, "1"),
        (UNDECIDED, ["--undecided", "pass"], 0, "0"),
    ],
)
def test_exit_codes_are_those_of_compare_and_junit_agrees(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    treatment_s: tuple[float, ...],
    options: list[str],
    code: int,
    failures: str,
) -> None:
    assert compare(stored(tmp_path, treatment_s), "--format", "junit", *options) == code
    (suite,) = ElementTree.fromstring(capsys.readouterr().out.encode())
    assert suite.get("failures") == failures


def test_llmd_writes_a_report_for_each_arm_and_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, folder = stored(tmp_path / "results"), tmp_path / "llmd"
    assert compare(results, "--format", "llmd", "--output", str(folder)) == 0
    assert len(list(folder.glob("baseline/benchmark_report_v0.2*.yaml"))) == 4
    assert len(list(folder.glob("managed/benchmark_report_v0.2*.yaml"))) == 4
    assert capsys.readouterr().out.splitlines()[-2] == f"llmd: {folder}"
    # Reports of two runs in one folder would be read as those of one.
    assert compare(results, "--format", "llmd", "--output", str(folder)) == 2
    error = f"error: {folder} exists; choose a new folder for the reports\n"
    assert capsys.readouterr().err == error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--format", "pdf"],
            "--format takes md, json, junit, csv, html or llmd, seen 'pdf'",
        ),
        (["--output", "x.md"], "--output x.md needs --format, which says what to write"),
        (
            ["--format", "llmd"],
            "--format llmd writes several files: give a new folder as --output",
        ),
        (
            ["--format", "md", "--run", "20260131-235959-a1b3"],
            "no run '20260131-235959-a1b3' under {}; the closest is '20260131-235959-a1b2'",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert compare(stored(tmp_path), *options) == 2
    assert capsys.readouterr() == ("", f"error: {message.format(tmp_path)}\n")


@pytest.mark.parametrize("name", FORMATS)
def test_what_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    results, file = stored(tmp_path / "results"), tmp_path / "file"
    file.write_text("mine")
    assert compare(results, "--format", name, "--output", str(file / "under")) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith(f"error: cannot write {file}/under")
    assert file.read_text() == "mine"


def test_a_folder_is_no_file_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = stored(tmp_path / "results")
    assert compare(results, "--format", "md", "--output", str(tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write {tmp_path}: Is a directory")


def test_a_damaged_run_is_one_line_and_leaves_the_last_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, file = stored(tmp_path / "results"), tmp_path / "run.md"
    file.write_text("the last one")
    damaged = next(results.rglob("block-*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert compare(results, "--format", "md", "--output", str(file)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {damaged} is damaged")
    assert file.read_text() == "the last one"


def test_llmd_needs_trials(tmp_path: Path) -> None:
    run = run_with(Case(better_case().judgement, ()))
    with pytest.raises(UserError, match="nothing to write: format llmd needs the trials"):
        export(run, "llmd", tmp_path / "new")


def test_a_run_is_dated_by_its_name() -> None:
    assert started("20260131-235959-a1b2") == "31 January 2026, 23:59 UTC"
    assert started("converted") == "converted"
