"""`python -m validation fuzz`: property tests of parsers and formats, driven by coverage.

atheris (libFuzzer) chooses what each test draws, and goes on from what reached new code of the
suite. Each test has its share of the time, and ends at the first input that fails it.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.console import whole_number
from bench.errors import UserError
from bench.processes.guarded import last_lines, run_bounded
from validation.harness import ROOT

TESTS = (
    "tests/lb/test_api_bodies.py",
    "tests/lb/test_cuts.py",
    "tests/lb/test_damaged_bytes.py",
    "tests/lb/test_engine_metrics.py",
    "tests/lb/test_kubernetes_watch.py",
    "tests/bench/test_damaged_files.py",
    "tests/bench/test_load_sse.py",
    "tests/bench/test_load_whole_chunks.py",
    "tests/bench/test_scraping_exposition.py",
)
_INSTALL = "pip install atheris==3.0.0"
# An input that takes a minute hangs. How long one is hardly matters: see `target`.
_ARGUMENTS = ("-timeout=60", "-max_len=2048", "-len_control=0", "-print_final_stats=1")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "tests",
        nargs="*",
        default=TESTS,
        metavar="TEST",
        help="as pytest takes it: a file, FILE::NAME (default: those of parsers and formats)",
    )
    parser.add_argument(
        "--minutes",
        type=whole_number,
        default=20,
        metavar="M",
        help="how long in all (default: %(default)s)",
    )


def fuzz(options: argparse.Namespace, kept: Path = ROOT / ".cache" / "fuzz") -> int:
    """Drive the tests one after another, and print what each did; 1 if one failed.

    `kept` gets a folder for each: inputs from which a later run goes on, a log, and the input that
    failed. Raises UserError where atheris or a property test is missing.
    """
    if importlib.util.find_spec("atheris") is None:
        raise UserError(f"atheris is not installed: {_INSTALL}")
    tests = property_tests(options.tests)
    share_s = max(1, 60 * options.minutes // len(tests))
    failed = 0
    for test in tests:
        folder = kept / re.sub(r"[^\w.-]+", "-", test.removeprefix("tests/"))
        code = run_one(test, folder, share_s)
        failed += code != 0
        print(result_line(test, code, folder / "log"), flush=True)
    print(f"{len(tests)} tests, {failed} of them failed; inputs and logs: {kept}")
    return 1 if failed else 0


def property_tests(asked: Sequence[str]) -> list[str]:
    """The ids of all property tests in what is asked for. Raises UserError if there are none."""
    listing = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "hypothesis", *asked]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if "::" in line]
    if done.returncode != 0 or not found:
        said = (done.stderr or done.stdout).strip().splitlines()[-1]
        raise UserError(f"no property test in {' '.join(asked)}: {said}")
    return found


def run_one(test: str, folder: Path, limit_s: int) -> int:
    """Drive one test in a process of its own; its exit code, 0 if nothing failed."""
    inputs, log = folder / "inputs", folder / "log"
    inputs.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    arguments = (*_ARGUMENTS, f"-max_total_time={limit_s}", f"-artifact_prefix={folder}/")
    command = [sys.executable, "-m", "validation.fuzz.target", test, *arguments, str(inputs)]
    return run_bounded("atheris", command, log=log, folder=ROOT)


def result_line(test: str, code: int, log: Path) -> str:
    """What one test did, from its exit code and the log of libFuzzer."""
    said = log.read_text(encoding="utf-8", errors="replace")
    runs = re.search(r"number_of_executed_units:\s+(\d+)", said)
    if runs is None:
        return f"DID NOT RUN {test}: {last_lines(log)}; log: {log}"
    edges = re.findall(r" cov: (\d+) ", said)
    line = f"{int(runs[1]):>9,} inputs {int(edges[-1]) if edges else 0:>6,} edges  {test}"
    if code == 0:
        return line
    error = re.search(r"^ *=== Uncaught Python exception: ===\n(.*)", said, re.MULTILINE)
    unit = re.search(r"Test unit written to (.+)", said)
    replay = ["python", "-m", "validation.fuzz.target", test, *(unit.groups() if unit else ())]
    return (
        f"{line}\n    FAILED: {error[1] if error else last_lines(log)}; log: {log}"
        f"\n    again: {shlex.join(replay)}\n    smaller: {shlex.join(['pytest', test])}"
    )
