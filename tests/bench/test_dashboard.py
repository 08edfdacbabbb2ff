from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.analysis.judgement import Summary
from bench.cli.commands import main
from bench.cli.dashboard import command
from bench.cli.dashboard.history import Entry, benchmarks, history, is_complete
from bench.cli.dashboard.loading import cases_of, latest_case, load, versions
from bench.cli.review import review
from bench.errors import UserError
from bench.records import Trial
from bench.store import TrialStore
from tests.bench.dashboards import AIPERF, FIRST, SECOND, many_runs, save, trials_of, two_runs
from tests.reports.cases import searched_case


def entry_of(folder: Path, run: str) -> Entry:
    (found,) = (one for one in history([folder]) if one.run == run)
    return found


def test_the_latest_run_comes_first_with_what_its_folders_say(tmp_path: Path) -> None:
    second, first = history([two_runs(tmp_path)])
    assert (first.run, second.run) == (FIRST, SECOND)
    assert (first.benchmark, second.benchmark) == ("built-in", "aiperf")
    assert first.arms == ("baseline", "managed")
    assert (first.scenarios, first.models) == (("heavy-tail",), ("tiny-llama",))
    assert first.label == f"31 January 2026, 12:00 UTC · heavy-tail · baseline, managed · {FIRST}"


def test_reports_of_tools_are_found_at_any_depth_and_parts_of_a_run_are_not(tmp_path: Path) -> None:
    shutil.copytree(AIPERF, tmp_path / "results" / "a" / "b" / "c" / "d")
    names = {one.run.removeprefix("results/a/b/c/d/") for one in history([tmp_path / "results"])}
    assert names == {"A/1", "A/2", "B/1", "B/2", "with-warm-up"}


def test_what_is_found_twice_is_there_once_and_names_are_unique(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        save(tmp_path / folder, trials_of(FIRST))
    folders = [tmp_path / "one", tmp_path / "one", tmp_path / "two", tmp_path / "absent"]
    names = [one.run for one in history(folders)]
    assert len(names) == len(set(names)) == 2
    assert all(len(load(one).cases) == 1 for one in history(folders))


def test_benchmarks_can_be_chosen_before_there_are_any(tmp_path: Path) -> None:
    assert benchmarks([]) == ["built-in", "genai-perf", "aiperf"]
    save(tmp_path, trials_of(FIRST))
    assert benchmarks(history([tmp_path])) == ["built-in", "genai-perf", "aiperf"]


def test_the_history_reads_one_json_file_a_run_and_no_table(tmp_path: Path) -> None:
    many_runs(tmp_path, 50)
    opened: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).startswith(str(tmp_path)):
            opened.append(str(arguments[0]))

    watching = True
    sys.addaudithook(watch)  # it stays for as long as the process does
    found = history([tmp_path])
    first = list(opened)
    history([tmp_path])
    watching = False
    assert len(found) == 50
    assert len(first) == 50
    assert all(path.endswith(".json") for path in first)
    assert opened == first, "what has not changed is not read again"


def summaries(*cases_with_summaries: tuple[Summary, ...]) -> dict[tuple[str, str], float | None]:
    return {(one.arm, one.metric): one.value for each in cases_with_summaries for one in each}


def test_figures_are_those_of_other_reports_and_more(tmp_path: Path) -> None:
    save(tmp_path, trials_of(FIRST))
    (reviewed,) = review(TrialStore(tmp_path), FIRST)
    (shown,) = load(entry_of(tmp_path, FIRST)).cases
    theirs, ours = summaries(reviewed.judgement.summaries), summaries(shown.judgement.summaries)
    assert theirs.items() <= ours.items()
    assert ours["baseline", "error_rate"] == 1 / 40
    assert {("managed", f"e2e_{kind}_s") for kind in ("mean", "p50", "p95", "p99")} <= ours.keys()
    assert shown.judgement.primary == reviewed.judgement.primary


def test_figures_of_a_tool_are_those_in_its_report() -> None:
    (series,) = load(entry_of(AIPERF, "aiperf-0.13.0/A/1")).series
    report = json.loads((AIPERF / "A" / "1" / "profile_export_aiperf.json").read_text())
    (case,) = series.cases
    first_token, rate = report["time_to_first_token"], report["request_throughput"]
    assert case == "concurrency 8 · tiny-llama"
    assert series.value(case, "success_rate") == 1 - report["request_error_rate"]["avg"]
    assert series.value(case, "throughput_rps") == rate["avg"]
    for theirs, ours in (("avg", "mean"), ("p50", "p50"), ("p95", "p95"), ("p99", "p99")):
        assert series.value(case, f"ttft_{ours}_s") == pytest.approx(first_token[theirs] / 1000)


def test_a_run_in_progress_grows_and_files_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, original = trials_of(FIRST), TrialStore.load
    loaded: list[Path] = []

    def counted(store: TrialStore, path: Path) -> Trial:
        loaded.append(path)
        return original(store, path)

    monkeypatch.setattr(TrialStore, "load", counted)
    store = TrialStore(tmp_path)
    for count, trial in enumerate(trials, start=1):
        os.utime(store.save(trial), (count, count))
        files = versions(entry_of(tmp_path, FIRST))
        cases = cases_of(files)
        assert len(latest_case(cases, files).trials) == len(loaded) == count
    assert cases[0].judgement.blocks == 4


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    save(tmp_path, trials_of(FIRST))
    next(tmp_path.rglob("*-control.parquet")).write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        load(entry_of(tmp_path, FIRST))


def test_without_streamlit_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["dashboard"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "error: the dashboard needs Streamlit, which is not installed;"
        " run python -m pip install -r bench/cli/dashboard/requirements.in\n"
    )


def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: object())
    assert main(["dashboard", str(tmp_path / "absent")]) == 2
    assert "is no folder" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["dashboard", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"port {port} is in use by process {os.getpid()}" in said
    assert "give another --port" in said
    assert main(["dashboard", "--port", "99999"]) == 2
    assert "--port takes a whole number from 1 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("blocks", "cut_short", "complete"), [(4, False, True), (3, False, False), (4, True, False)]
)
def test_a_search_that_was_stopped_in_its_last_block_is_not_complete(
    tmp_path: Path, blocks: int, cut_short: bool, complete: bool
) -> None:
    trials = [one for one in searched_case().trials if one.block < blocks]
    more = replace(trials[-1], position=10, cut_short=cut_short)
    save(tmp_path, [*trials, more])
    (found,) = history([tmp_path])
    assert is_complete(found) is complete
