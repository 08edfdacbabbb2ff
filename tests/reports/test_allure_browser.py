"""The Allure report as Allure makes it, in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from bench.errors import UserError
from bench.progress import make_progress
from reports.generate import generate
from reports.node import allure
from tests.browsing import CHROMIUM, NEEDS_BROWSER
from tests.reports.test_allure_attachments import run_pytest

pytestmark = [pytest.mark.slow, NEEDS_BROWSER]
SCENARIOS = """
from bench.records import Expectation
from reports.allure_results import label
from reports.run import Arms

def named(scenario, models, **details):
    label(scenario, models, Arms("baseline", "managed"), Expectation.NOT_WORSE, details)

def test_latency():
    named("latency", ("tiny-llama",), profile={profile!r})

def test_burst():
    named("burst", ("tiny-llama",), profile={profile!r})
    assert {holds}, "worse: expected not worse, seen: ratio 1.30"
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Reports of two runs with one history.

    The second is another folder's and machine's, of a CI server, under xdist, and fails no gate.
    """
    try:
        allure(make_progress())
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("allure")
    history = folder / "history.jsonl"
    first = results_of(folder / "here", holds=False)
    second = results_of(folder / "elsewhere" / "checkout", "-n", "2", holds=True)
    for file in second.glob("*-result.json"):
        text = json.loads(file.read_text("utf-8"))
        for one in text["labels"]:
            if one["name"] == "host":
                one["value"] = "another-machine"
        file.write_text(json.dumps(text), "utf-8")
    return [
        generate(results, results.with_name("report"), history, make_progress())
        for results in (first, second)
    ]


def results_of(folder: Path, *options: str, holds: bool) -> Path:
    folder.mkdir(parents=True)
    profile = "quick" if holds else "standard"
    (folder / "test_one.py").write_text(SCENARIOS.format(profile=profile, holds=holds))
    expected = pytest.ExitCode.OK if holds else pytest.ExitCode.TESTS_FAILED
    return run_pytest(folder, expected, *options)


@pytest.fixture
def page() -> Any:
    """A page that fails its test for a request, or a word in the console."""
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        made = browser.new_context(offline=True).new_page()
        made.on("console", lambda line: wrong.append(line.text))
        made.on("pageerror", lambda error: wrong.append(str(error)))
        made.on("request", lambda request: wrong.append(request.url))
        yield made
        browser.close()
    assert [one for one in wrong if not one.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("run", [0, 1], ids=["failed", "held"])
def test_the_quality_gate_says_what_the_run_does(reports: list[Path], page: Any, run: int) -> None:
    page.goto(reports[run].as_uri())
    page.get_by_text("Quality Gates").click()
    gates = page.get_by_text("every gate of every comparison holds").locator("xpath=../..")
    said = ("The number of failed tests 1 exceeds", "The number of failed tests 0 is within")[run]
    gates.get_by_text(said).wait_for()
    assert page.get_by_text("something was measured").count() == 1


def test_history_survives_another_machine_a_ci_server_and_xdist(
    reports: list[Path], page: Any
) -> None:
    history = reports[0].parents[2] / "history.jsonl"
    runs = [json.loads(line)["testResults"] for line in history.read_text("utf-8").splitlines()]
    assert len(runs) == 2
    assert runs[0].keys() == runs[1].keys()
    page.goto(reports[1].as_uri())
    page.get_by_text("burst", exact=True).click()
    page.get_by_text("burst · tiny-llama").click()
    page.get_by_text(re.compile("^History")).click()
    page.get_by_text(re.compile(r"^\d+/\d+/\d{4} at ")).wait_for()
