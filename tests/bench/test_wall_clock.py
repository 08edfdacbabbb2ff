"""No measured time comes from the wall clock: the linter's rule, shown to hold."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULE = "TID251"
# What makes names and dates for people, and nothing else.
MAY_READ = {
    "bench/config/config.py",
    "bench/environments/docker/operations.py",
    "bench/environments/kubernetes/holding.py",
    "bench/environments/kubernetes/operations.py",
    "bench/environments/local/starting.py",
    "bench/console.py",
    "validation/harness.py",
    "bench/drivers/__init__.py",
    "bench/cli/pytest_run.py",
    "lb/observability/journal.py",
    "tests/lb/test_access_lines.py",
}
MEASURES = [
    "bench/load/run/meter.py",
    "bench/load/accuracy/source.py",
    "bench/experiment/experiment.py",
    "bench/new.py",
]
READS = [
    "import time\nprint(time.time())\n",
    "import time as t\nprint(t.time_ns())\n",
    "from time import time\nprint(time())\n",
    "import time\nprint(time.clock_gettime(time.CLOCK_REALTIME))\n",
    "import time\nprint(time.strftime('%H'))\n",
    "import time\nclock = time.time\n",
    "import datetime\nprint(datetime.datetime.now(datetime.UTC))\n",
    "from datetime import datetime as at\nprint(at.utcnow())\n",
    "from datetime import date\nprint(date.today())\n",
]
HARMLESS = [
    "import time\nprint(time.monotonic())\n",
    "from time import monotonic\nprint(monotonic())\n",
    "import asyncio\nprint(asyncio.get_running_loop().time())\n",
    "from datetime import datetime\nprint(datetime.fromisoformat('2026-01-31'))\n",
]


def broken(path: str, code: str) -> bool:
    """Whether the linter finds the wall clock in `code` as the text of `path`."""
    command = [sys.executable, "-m", "ruff", "check", "--select", RULE, "--stdin-filename", path]
    done = subprocess.run(
        [*command, "--no-cache", "-"],
        cwd=ROOT,
        input=code,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return RULE in done.stdout


@pytest.mark.parametrize("code", READS)
def test_reading_the_wall_clock_where_times_are_measured_fails(code: str) -> None:
    assert broken(MEASURES[0], code)


@pytest.mark.parametrize("path", MEASURES)
def test_it_fails_in_every_module_that_measures(path: str) -> None:
    assert broken(path, READS[0])


@pytest.mark.parametrize("code", HARMLESS)
def test_the_monotonic_clock_passes(code: str) -> None:
    assert not broken(MEASURES[0], code)


def test_run_ids_may_read_the_wall_clock() -> None:
    assert not broken("bench/config/config.py", READS[0])


def test_only_what_makes_names_and_dates_is_excepted() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "TID" in linter["select"]
    assert {path for path, rules in linter["per-file-ignores"].items() if RULE in rules} == MAY_READ


def test_no_line_is_excepted() -> None:
    files = [path for name in ("bench", "lb", "validation") for path in (ROOT / name).rglob("*.py")]
    assert not [path for path in files if "noqa" in path.read_text(encoding="utf-8")]


def test_the_tree_passes() -> None:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--select",
        RULE,
        "bench",
        "lb",
        "validation",
        "conftest.py",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
