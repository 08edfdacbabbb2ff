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
from bench.analysis.gates import require_gates
from bench.analysis.judgement import Case, Verdict
from bench.records import Expectation
from pathlib import Path
from reports.allure_results import attach_cases, attach_run, label, step
from reports.run import Arms
from tests.reports.cases import SETUP, better_case, factorial_run, run_with
import pytest

ARMS = Arms("baseline", "managed")

def test_scenario():
    case = better_case()
    label("heavy-tail", ("tiny-llama",), ARMS, Expectation.BETTER, {"profile": "quick"})
    with step("block 1"):
        pass
    attach_cases([case], SETUP)
    worse = replace(case.judgement.primary, verdict=Verdict.WORSE)
    failed = Case(replace(case.judgement, comparisons=(worse,)), case.trials)
    log = Path("engine-0.log")
    log.write_bytes(b"x" * 100_000 + b"the end")
    attach_run(run_with(failed), [log])

def test_again():
    first = better_case()
    second = Case(replace(first.judgement, round=2), first.trials)
    attach_cases([first, second], SETUP)

@pytest.mark.parametrize("treatment", ["treatment", "treatment-2"], ids=["a", "b"])
def test_factors(treatment):
    run = factorial_run()
    label("heavy-tail", ("m",), ARMS, Expectation.BETTER, {"treatment": treatment.upper()})
    attach_cases(run.cases[:1], SETUP, run.factorials[0])
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a small pytest run of its own: Allure's hooks are global."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "test_one.py").write_text(SCENARIO)
    return run_pytest(folder, pytest.ExitCode.OK)


def run_pytest(folder: Path, expected: pytest.ExitCode, *options: str) -> Path:
    """Run the tests in `folder`; where Allure's results are."""
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    results = folder / "results"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--alluredir={results}"]
    done = subprocess.run(
        [*command, *options, str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected, done.stdout
    return results


@pytest.fixture(scope="module")
def result(written: Path) -> dict[str, Any]:
    return result_of(written, "test_scenario")


def result_of(written: Path, test: str) -> dict[str, Any]:
    (found,) = results_of(written, test)
    return found


def results_of(written: Path, test: str) -> list[dict[str, Any]]:
    files = map(Path.read_text, written.glob("*-result.json"))
    return [one for one in map(json.loads, files) if one["fullName"].endswith(f"#{test}")]


def test_a_test_is_named_after_its_scenario_and_models(result: dict[str, Any]) -> None:
    assert result["name"] == "heavy-tail · tiny-llama"
    labels = {one["name"]: one["value"] for one in result["labels"]}
    assert labels["epic"] == "managed against baseline"
    assert (labels["feature"], labels["story"]) == ("heavy-tail", "tiny-llama")
    assert labels["severity"] == "critical"
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


def test_a_comparison_of_a_factorial_run_has_the_effects_of_its_factors(written: Path) -> None:
    found = results_of(written, "test_factors")
    for one in found:
        assert "width: 8 / 4" in one["descriptionHtml"]
        assert "Effects on Scheduled TTFT p95" in [each["name"] for each in one["attachments"]]
    assert len({one["historyId"] for one in found}) == 2, "each treatment has its own history"


def globals_of(written: Path, kind: str) -> dict[str, Any]:
    """What belongs to the run as a whole, by its name or message."""
    files = [json.loads(one.read_text("utf-8")) for one in written.glob("*-globals.json")]
    found = [entry for one in files for entry in one.get(kind, ())]
    return {entry.get("name") or entry["message"]: entry for entry in found}


def test_the_page_is_attached_to_the_run(written: Path) -> None:
    attachment = globals_of(written, "attachments")["Comparison: managed against baseline"]
    assert attachment["type"] == "text/html"
    assert (written / attachment["source"]).read_text("utf-8").startswith("<!doctype html>")


def test_the_run_has_the_ends_of_logs_and_each_gate_that_failed(written: Path) -> None:
    log = globals_of(written, "attachments")["Log: engine-0"]
    text = (written / log["source"]).read_text("utf-8")
    assert text.endswith("the end")
    assert len(text) == 64_000
    (message,) = globals_of(written, "errors")
    assert message.startswith("heavy-tail · tiny-llama\nworse: expected better, seen: ")


def test_a_test_keeps_its_history_in_another_folder_and_under_xdist(
    tmp_path: Path, result: dict[str, Any]
) -> None:
    (tmp_path / "test_one.py").write_text(SCENARIO.replace("quick", "standard"))
    other = run_pytest(tmp_path, pytest.ExitCode.OK, "-n", "1")
    assert result_of(other, "test_scenario")["historyId"] == result["historyId"]


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


# In a process of its own: Allure's hooks are global.
FULL = """
import sys
from allure_commons import hookimpl, plugin_manager
from reports.allure_results import WriteGuard

class Full:
    @hookimpl
    def report_result(self, result): raise OSError(28, "full", result)
    @hookimpl
    def report_container(self, container): raise OSError(28, "full", container)
    @hookimpl
    def report_attached_file(self, source, file_name): raise OSError(28, "full", file_name)
    @hookimpl
    def report_attached_data(self, body, file_name): raise OSError(28, "full", file_name)
    @hookimpl
    def report_globals(self, globals_item): raise OSError(28, "full", globals_item)

plugin_manager.register(Full())
guard, (hook, *names) = WriteGuard(), sys.argv[1:]
for number in range(2):
    getattr(plugin_manager.hook, hook)(**{name: f"file {number}" for name in names})
print(guard.error)
"""


@pytest.mark.parametrize(
    "hook",
    [
        ("report_result", "result"),
        ("report_container", "container"),
        ("report_attached_file", "source", "file_name"),
        ("report_attached_data", "body", "file_name"),
        ("report_globals", "globals_item"),
    ],
)
def test_whatever_allure_cannot_write_the_run_goes_on_and_the_first_is_known(
    hook: tuple[str, ...],
) -> None:
    command = [sys.executable, "-c", FULL, *hook]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[Errno 28] full: 'file 0'\n", done.stderr
