"""Property tests driven by coverage: which there are, how each is driven, and what is said."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import UserError
from validation.__main__ import main
from validation.fuzz.command import TESTS, property_tests, result_line, run_one
from validation.harness import ROOT

pytestmark = pytest.mark.slow

# As much of atheris as is needed: it runs one input, that in which an integer is 12345.
ATHERIS = """
from contextlib import nullcontext
def instrument_imports(include):
    return nullcontext()
def Setup(arguments, target):
    global run
    print(arguments[1:])
    run = target
def Fuzz():
    run((12345).to_bytes(4, "big"))
"""
PROPERTY = """
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

@pytest.mark.parametrize("bad", [12345])
@settings(max_examples=1)
@given(number=st.integers(0, 2**32 - 1), text=st.text())
def test_number(bad, number, text, tmp_path_factory):
    assert tmp_path_factory.getbasetemp().exists()
    assert number != bad
"""
LOG = """\
#2\tINITED cov: 18 ft: 18 corp: 1/1b exec/s: 0 rss: 193Mb
#7458\tDONE   cov: 380 ft: 1299 corp: 118/10972b lim: 4096 exec/s: 355 rss: 196Mb
stat::number_of_executed_units: 7458
"""
CRASH = """
 === Uncaught Python exception: ===
KeyError: 'data'
Traceback (most recent call last):
artifact_prefix='/a b/'; Test unit written to /a b/crash-1
"""


def test_all_of_them_have_properties() -> None:
    assert {one.partition("::")[0] for one in property_tests(TESTS)} == {*TESTS}


def test_what_has_none_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^no property test in tests/none.py: .*not found") as none:
        property_tests(["tests/none.py"])
    assert "\n" not in str(none.value)


def test_without_atheris_a_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["fuzz"]) == 2
    assert capsys.readouterr().err.startswith("error: atheris is not installed: pip install")


def test_what_fails_under_it_fails_again_under_pytest(tmp_path: Path) -> None:
    (tmp_path / "atheris.py").write_text(ATHERIS)
    (tmp_path / "test_it.py").write_text(PROPERTY)

    def run(*command: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            # No variable of a CI server: there Hypothesis keeps no failures.
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path}:{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    assert "1 passed" in run("pytest", "test_it.py")
    driven = run("validation.fuzz.target", "test_it.py", "-runs=1", "folder")
    assert "['-runs=1', 'folder']" in driven
    assert "assert 12345 != 12345" in driven
    assert "number=12345" in run("pytest", "test_it.py")


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (0, LOG, "    7,458 inputs    380 edges  t[a b]"),
        (
            77,
            LOG + CRASH,
            "    7,458 inputs    380 edges  t[a b]\n    FAILED: KeyError: 'data'; log: {log}\n"
            "    again: python -m validation.fuzz.target 't[a b]' '/a b/crash-1'\n"
            "    smaller: pytest 't[a b]'",
        ),
        (0, "1 skipped\n", "DID NOT RUN t[a b]: 1 skipped; log: {log}"),
    ],
)
def test_a_test_is_told_with_how_to_see_it_fail_again(
    tmp_path: Path, code: int, text: str, said: str
) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert result_line("t[a b]", code, log) == said.format(log=log)


def test_atheris_drives_a_test_of_this_project(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="needs atheris: pip install atheris==3.0.0")
    test = "tests/lb/test_damaged_bytes.py::test_what_is_damaged_is_read_or_refused[models]"
    assert run_one(test, tmp_path, 1) == 0
    assert " inputs " in result_line(test, 0, tmp_path / "log")
    assert any((tmp_path / "inputs").iterdir())
