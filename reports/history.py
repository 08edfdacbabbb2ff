"""Allure's history file: one JSON line for each run that was reported."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path

from bench.errors import UserError

# A test's full name and the millisecond at which it started.
Started = tuple[str, int]


def tests_of(results: Path) -> frozenset[Started]:
    """The tests in a folder of Allure results. Raises UserError when there are none."""
    files = sorted(results.glob("*-result.json"))
    if not files:
        raise UserError(f"{results}: no Allure results there; run pytest first")
    return frozenset(_started(_json(file, file.read_text("utf-8"))) for file in files)


def other_runs(history: Path, tests: Set[Started]) -> str:
    """The history without the run of `tests`: a run that is reported again replaces itself."""
    if not history.is_file():
        return ""
    lines = history.read_text("utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not tests & _tests(_json(history, line)))


def _tests(run: object) -> frozenset[Started]:
    results = run.get("testResults") if isinstance(run, dict) else None
    return frozenset(map(_started, results.values())) if isinstance(results, dict) else frozenset()


def _started(test: object) -> Started:
    known = test if isinstance(test, dict) else {}
    return str(known.get("fullName")), int(known.get("start") or 0)


def _json(file: Path, text: str) -> object:
    try:
        parsed: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: not JSON ({error.msg}); remove it and try again") from None
    return parsed
