"""From Allure results to the Allure 3 report, with the history of earlier runs."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Set
from pathlib import Path

import yaml

from bench.errors import UserError, writing
from bench.progress import Progress
from reports.node import HERE, NodeError, RunNode, allure, run_node
from reports.result_files import category_rules

_CONFIG = HERE / "allurerc.yml"
# Allure puts this into every report; ours is to be read offline and to call no server.
_ANALYTICS = re.compile(
    r"<script async src=\"https://www\.googletagmanager\.com[^>]*></script>\s*"
    r"<script>.*?</script>",
    re.DOTALL,
)
# Allure fits a frame to the page in it, but may not look into it when the report is
# opened from disk: the comparison page would show three lines.
_TALL_FRAMES = '<style>iframe[src^="blob:null"] { min-height: 85vh }</style>'


def generate(
    results: Path,
    output: Path,
    history: Path,
    progress: Progress,
    *,
    packages: Path = HERE,
    run: RunNode = run_node,
) -> Path:
    """Write the report to `output`, replacing an earlier one; returns the file to open.

    The run is added to `history`, or replaces itself there when it is reported again.
    Raises UserError with one line; `results` are never touched, so it can be repeated.
    """
    tests = tests_of(results)
    page = output / "index.html"
    if output.exists() and not page.is_file():
        raise UserError(f"{output}: exists and is not a report; choose another folder")
    program = allure(progress, packages, run)
    with progress.step("making the report"), writing():
        _make(program, results, output, history, other_runs(history, tests), run)
    return page


def _make(
    program: Path, results: Path, output: Path, history: Path, earlier: str, run: RunNode
) -> None:
    """Let Allure make the report, and put it and the history in place when it is whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    history.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=output.parent) as folder:
        work = Path(folder).resolve()
        runs = work / "history.jsonl"
        runs.write_text(earlier, "utf-8")
        config = work / "allurerc.json"
        # Allure 3 reads categories from here only; the categories.json among the results is for
        # older versions.
        own = {"output": str(work / "report"), "historyPath": str(runs)}
        rules = {"categories": {"rules": category_rules()}}
        written = yaml.safe_load(_CONFIG.read_text("utf-8"))
        config.write_text(json.dumps(written | own | rules), "utf-8")
        command = [str(program), str(config), str(results.resolve())]
        try:
            run(command, work)
        except NodeError as error:
            raise UserError(f"{results}: Allure made no report of it: {error}") from None
        page = work / "report" / "index.html"
        html = _ANALYTICS.sub("", page.read_text("utf-8"))
        page.write_text(html.replace("</head>", f"{_TALL_FRAMES}</head>", 1), "utf-8")
        shutil.rmtree(output, ignore_errors=True)
        shutil.move(work / "report", output)
        shutil.move(runs, history)


# A test's full name and the millisecond at which it started.
Started = tuple[str, int]


def tests_of(results: Path) -> frozenset[Started]:
    """The tests in a folder of Allure results. Raises UserError when there are none."""
    files = sorted(results.glob("*-result.json"))
    if not files:
        raise UserError(f"{results}: no Allure results there; run pytest first")
    return frozenset(_started(_json(file, file.read_bytes())) for file in files)


def other_runs(history: Path, tests: Set[Started]) -> str:
    """The history without the run of `tests`: a run that is reported again replaces itself."""
    if not history.is_file():
        return ""
    lines = history.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not tests & _tests(_json(history, line))]
    return b"".join(kept).decode()


def _tests(run: object) -> frozenset[Started]:
    results = run.get("testResults") if isinstance(run, dict) else None
    return frozenset(map(_started, results.values())) if isinstance(results, dict) else frozenset()


def _started(test: object) -> Started:
    known = test if isinstance(test, dict) else {}
    start = known.get("start")
    return str(known.get("fullName")), start if isinstance(start, int) else 0


def _json(file: Path, text: bytes) -> object:
    try:
        parsed: object = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON ({error}); remove it and try again") from None
    return parsed
