"""What scenario tests hand to Allure, seen in the files that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCENARIO = """
from dataclasses import replace
from bench.analysis.judgement import Case
from reports.allure_results import attach_cases, attach_run, label, step
from tests.reports.cases import SETUP, better_case, run_with

def test_scenario():
    case = better_case()
    label("heavy-tail", ("tiny-llama",), {"profile": "quick"})
    with step("block 1"):
        pass
    attach_cases([case], SETUP)
    attach_run(run_with(case))

def test_again():
    first = better_case()
    second = Case(replace(first.judgement, round=2), first.trials)
    attach_cases([first, second], SETUP)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a small pytest run of its own: Allure's hooks are global."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "test_one.py").write_text(SCENARIO)
    return run_pytest(folder, pytest.ExitCode.OK)


def run_pytest(folder: Path, expected: pytest.ExitCode) -> Path:
    """Run the tests in `folder`; where Allure's results are."""
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    results = folder / "results"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--alluredir={results}"]
    done = subprocess.run(
        [*command, str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected, done.stdout
    return results


@pytest.fixture(scope="module")
def result(written: Path) -> dict[str, Any]:
    return result_of(written, "test_scenario")


def result_of(written: Path, test: str) -> dict[str, Any]:
    files = map(Path.read_text, written.glob("*-result.json"))
    (found,) = (one for one in map(json.loads, files) if one["fullName"].endswith(f"#{test}"))
    loaded: dict[str, Any] = found
    return loaded


def test_a_test_is_named_after_its_scenario_and_models(result: dict[str, Any]) -> None:
    assert result["name"] == "heavy-tail · tiny-llama"
    assert {"name": "feature", "value": "heavy-tail"} in result["labels"]
    assert [step["name"] for step in result["steps"]] == ["block 1"]


def test_details_are_shown_but_do_not_part_a_test_from_its_history(result: dict[str, Any]) -> None:
    (parameter,) = result["parameters"]
    assert (parameter["name"], parameter["excluded"]) == ("profile", True)


def test_the_description_shows_table_and_charts(result: dict[str, Any]) -> None:
    assert "0.41 [0.36, 0.46]" in result["descriptionHtml"]
    assert result["descriptionHtml"].count("<img ") == 8


def test_charts_and_numbers_are_attached(written: Path, result: dict[str, Any]) -> None:
    kinds = [one["type"] for one in result["attachments"]]
    assert kinds == ["image/svg+xml"] * 8 + ["text/csv"]
    assert all((written / one["source"]).stat().st_size for one in result["attachments"])


def test_both_rounds_are_shown_the_one_that_counts_first(written: Path) -> None:
    again = result_of(written, "test_again")
    html = again["descriptionHtml"]
    assert html.count("<img ") == 16
    title = "heavy-tail · tiny-llama"
    assert 0 <= html.index(f"<h3>{title} · again</h3>") < html.index(f"<h3>{title}</h3>")
    names = [one["name"] for one in again["attachments"]]
    assert sum("(round 2)" in name for name in names[:9]) == 9
    assert sum("(round 1)" in name for name in names[9:]) == 9


def test_the_page_is_attached_to_the_run(written: Path) -> None:
    (file,) = written.glob("*-globals.json")
    (attachment,) = json.loads(file.read_text("utf-8"))["attachments"]
    assert attachment["name"] == "Comparison: managed against baseline"
    assert attachment["type"] == "text/html"
    assert (written / attachment["source"]).read_text("utf-8").startswith("<!doctype html>")


INTERRUPTED = """
import pytest
from reports.allure_results import mark_interrupted

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        yield
    except KeyboardInterrupt:
        mark_interrupted(item.config.pluginmanager.get_plugin("allure_listener"))
        raise
"""


def test_a_test_that_was_interrupted_did_not_pass(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one():\n    raise KeyboardInterrupt\n")
    (tmp_path / "conftest.py").write_text(INTERRUPTED)
    (file,) = run_pytest(tmp_path, pytest.ExitCode.INTERRUPTED).glob("*-result.json")
    result = json.loads(file.read_text("utf-8"))
    assert result["status"] == "broken"
    assert result["statusDetails"]["message"] == "interrupted before it was decided"
