"""Making the Allure report, with a stub in Node's place."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.progress import PlainProgress
from reports.__main__ import main
from reports.generate import generate
from reports.node import NodeError, allure

ANALYTICS = (
    '<script async src="https://www.googletagmanager.com/gtag/js?id=G-X"></script>\n'
    "<script>gtag('config');</script>"
)


class Stub:
    """Does what npm and Allure do to files, and remembers how it was called."""

    def __init__(self, fail: str = "") -> None:
        self.calls: list[str] = []
        self.configs: list[dict[str, Any]] = []
        self._fail = fail

    def __call__(self, arguments: Sequence[str], folder: Path) -> None:
        program = Path(arguments[0]).name
        self.calls.append(program)
        if self._fail == program:
            raise NodeError("code ENOTFOUND")
        if program == "npm-cli.js":
            (folder / "node_modules").mkdir(exist_ok=True)
        else:
            self._report(json.loads(Path(arguments[1]).read_text("utf-8")), Path(arguments[2]))

    def _report(self, config: dict[str, Any], results: Path) -> None:
        self.configs.append(config)
        output = Path(config["output"])
        output.mkdir()
        body = f"<html><head></head><body>report{ANALYTICS}<script>app()</script></body></html>"
        (output / "index.html").write_text(body)
        tests = [json.loads(one.read_text()) for one in sorted(results.glob("*-result.json"))]
        with Path(config["historyPath"]).open("a") as history:
            history.write(json.dumps({"testResults": {str(i): t for i, t in enumerate(tests)}}))
            history.write("\n")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "package-lock.json").write_text("{}")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "allure-results"
    folder.mkdir()
    started(folder, 1000)
    return folder


def started(folder: Path, at_ms: int) -> None:
    """Put the result of a test that started then into the folder, in place of the last one."""
    result = {"fullName": "tests.scenarios#heavy_tail", "start": at_ms}
    (folder / "a-result.json").write_text(json.dumps(result))


def make(results: Path, packages: Path, run: Stub) -> Path:
    folder = results.parent
    history = folder / "kept" / "history.jsonl"
    return generate(results, folder / "report", history, quiet(), packages=packages, run=run)


def quiet() -> PlainProgress:
    return PlainProgress(io.StringIO())


def runs_in(results: Path) -> list[int]:
    lines = (results.parent / "kept" / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["testResults"]["0"]["start"] for line in lines]


def test_packages_are_installed_before_the_first_report_and_not_before_the_second(
    results: Path, packages: Path
) -> None:
    stub = Stub()
    make(results, packages, stub)
    make(results, packages, stub)
    assert stub.calls == ["npm-cli.js", "allure.mjs", "allure.mjs"]


def fill(disk: Path) -> None:
    """Leave no room on the disk."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("packages_change", [False, True])
def test_a_full_disk_is_told_in_one_line_and_the_last_report_stays(
    results: Path, packages: Path, small_disk: Path, packages_change: bool
) -> None:
    at, there = (Path(shutil.copytree(one, small_disk / one.name)) for one in (results, packages))
    page = make(at, there, Stub())
    kept = page.read_text()
    if packages_change:
        (there / "package-lock.json").write_text('{"changed": true}')
    fill(small_disk)
    with pytest.raises(UserError, match=r"^cannot write .*: No space left on device; free some"):
        make(at, there, Stub())
    assert page.read_text() == kept
    assert runs_in(at) == [1000]


def test_packages_are_installed_again_when_their_versions_change(packages: Path) -> None:
    stub = Stub()
    allure(quiet(), packages, stub)
    (packages / "package-lock.json").write_text('{"changed": true}')
    allure(quiet(), packages, stub)
    assert stub.calls == ["npm-cli.js"] * 2


def test_packages_are_installed_once_for_processes_that_come_at_the_same_time(
    packages: Path,
) -> None:
    stub, second = Stub(), threading.Barrier(2)

    def run(arguments: Sequence[str], folder: Path) -> None:
        # Gives a second one the time to come in as well.
        with contextlib.suppress(threading.BrokenBarrierError):
            second.wait(timeout=0.5)
        stub(arguments, folder)

    with ThreadPoolExecutor(3) as pool:
        programs = list(pool.map(lambda _: allure(quiet(), packages, run), range(3)))
    assert stub.calls == ["npm-cli.js"]
    assert len(set(programs)) == 1


def test_the_user_is_told_why_it_takes_long_the_first_time(packages: Path) -> None:
    said = io.StringIO()
    allure(PlainProgress(said), packages, Stub())
    allure(PlainProgress(said), packages, Stub())
    first, second = said.getvalue().splitlines()
    assert first.startswith("installing the report generator, once (")
    assert re.search(r"^installing the .*: done in \d+\.\d s$", second)


def test_the_user_is_told_how_long_making_the_report_took(results: Path, packages: Path) -> None:
    said = io.StringIO()
    folder = results.parent
    generate(
        *(results, folder / "report", folder / "history.jsonl", PlainProgress(said)),
        packages=packages,
        run=Stub(),
    )
    assert re.search(r"^making the report: done in \d+\.\d s$", said.getvalue(), re.MULTILINE)


def test_a_generator_that_cannot_be_installed_is_not_told_as_done(packages: Path) -> None:
    said = io.StringIO()
    with pytest.raises(UserError):
        allure(PlainProgress(said), packages, Stub(fail="npm-cli.js"))
    assert "done in" not in said.getvalue()


def test_without_a_network_there_is_one_line_and_the_next_attempt_installs(
    results: Path, packages: Path
) -> None:
    with pytest.raises(
        UserError, match=r"^the report generator cannot be .* ENOTFOUND; .* tries again$"
    ):
        make(results, packages, Stub(fail="npm-cli.js"))
    assert (results / "a-result.json").is_file()
    assert make(results, packages, Stub()).is_file()


def test_a_run_is_added_to_the_history_and_replaces_itself_when_reported_again(
    results: Path, packages: Path
) -> None:
    make(results, packages, Stub())
    make(results, packages, Stub())
    assert runs_in(results) == [1000]
    started(results, 2000)
    make(results, packages, Stub())
    make(results, packages, Stub())
    assert runs_in(results) == [1000, 2000]


def test_a_failure_keeps_the_last_report_the_history_and_the_results(
    results: Path, packages: Path
) -> None:
    page = make(results, packages, Stub())
    before = page.read_text()
    started(results, 2000)
    with pytest.raises(UserError, match="ENOTFOUND"):
        make(results, packages, Stub(fail="allure.mjs"))
    assert page.read_text() == before
    assert runs_in(results) == [1000]
    assert {one.name for one in results.parent.iterdir()} == {
        *("packages", "allure-results", "report", "kept"),
    }


def test_the_report_calls_nobody(results: Path, packages: Path) -> None:
    html = make(results, packages, Stub()).read_text()
    assert "googletagmanager" not in html
    assert "gtag" not in html
    assert "<script>app()</script>" in html


def test_the_configuration_has_the_categories_of_failing_tests(
    results: Path, packages: Path
) -> None:
    stub = Stub()
    make(results, packages, stub)
    names = [rule["name"] for rule in stub.configs[0]["categories"]["rules"]]
    assert names[-1] == "Other errors"
    assert "SLO missed" in names


def test_an_older_report_is_replaced_as_a_whole(results: Path, packages: Path) -> None:
    page = make(results, packages, Stub())
    (page.parent / "left over").touch()
    make(results, packages, Stub())
    assert [one.name for one in page.parent.iterdir()] == ["index.html"]


def test_a_folder_that_is_no_report_is_not_replaced(results: Path, packages: Path) -> None:
    precious = results.parent / "report" / "thesis.tex"
    precious.parent.mkdir()
    precious.touch()
    with pytest.raises(UserError, match="exists and is not a report"):
        make(results, packages, Stub())
    assert precious.is_file()


def test_without_results_the_user_is_told_to_run_pytest_first(
    tmp_path: Path, packages: Path
) -> None:
    with pytest.raises(UserError, match="no Allure results there; run pytest first"):
        make(tmp_path / "nowhere", packages, Stub())


@pytest.mark.parametrize("data", [b"{ half", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("damaged", ["history", "result"])
def test_a_damaged_file_is_named(results: Path, packages: Path, damaged: str, data: bytes) -> None:
    history = results.parent / "kept" / "history.jsonl"
    history.parent.mkdir()
    file = history if damaged == "history" else results / "b-result.json"
    file.write_bytes(data)
    with pytest.raises(UserError, match=rf"{file.name}: not JSON"):
        make(results, packages, Stub())


def test_the_command_line_tells_a_mistake_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--results", str(tmp_path / "none")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
