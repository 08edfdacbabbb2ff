"""What pytest's plugins share: a run's configuration, environment and files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path

import pytest
from _pytest.skipping import evaluate_skip_marks

from bench.cli.export import text_of
from bench.config.config import Config
from bench.config.options import ENVIRONMENTS
from bench.environments.base import Environment
from bench.errors import UserError, writing
from bench.paths import ROOT
from bench.progress import Progress
from bench.store.files import write_whole
from reports.allure_results import attach_run
from reports.page import render_page
from reports.result_files import write_run
from reports.run import Run

CONFIG = pytest.StashKey[Config]()
OUTCOME = pytest.StashKey[str]()
# The markers of tests that measure: the control alone, or control and treatment.
CONTROL_ALONE, BOTH_ARMS = "baseline", "managed"


@contextmanager
def shown(config: pytest.Config) -> Iterator[None]:
    """Let progress through while pytest captures output."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with nullcontext() if capture is None else capture.global_and_fixture_disabled():
        yield


def make_environment(config: Config, progress: Progress) -> Environment:
    """The environment that the options name; nothing is started yet."""
    package = ENVIRONMENTS[config.options.env].package
    module = import_module(f"bench.environments.{package}.environment")
    made: Environment = module.make_environment(config, progress)
    return made


def write_reports(config: Config, run: Run, allure: str | None) -> tuple[Path, Path]:
    """Write the figures and the page, and return their paths; also what Allure shows.

    `allure` is its folder, None where its plugin is absent.
    """
    latest, page = config.results / "latest.json", config.results / "comparison.html"
    write_whole(latest, text_of("json", run).encode())
    write_whole(page, render_page(run).encode())
    if allure is not None:
        write_run(Path(allure), run)
        logs = run.provenance.get("environment", {}).get("logs", "")
        attach_run(run, sorted((ROOT / logs).glob("*.log")) if logs else ())
    return latest, page


@contextmanager
def errors_shown(reporter: pytest.TerminalReporter) -> Iterator[None]:
    """Print an error of the reports in one line, and let the run fail."""
    try:
        with writing():
            yield
    except UserError as error:
        reporter.write_line(f"error: {error}")
        assert reporter._session is not None
        reporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED


def measured(item: pytest.Item) -> bool:
    """Whether a test measures an arm or both."""
    return any(item.get_closest_marker(name) for name in (CONTROL_ALONE, BOTH_ARMS))


def measures(session: pytest.Session) -> bool:
    """Whether this run will measure: not if it only lists, skips or fails its tests."""
    failed = session.testsfailed and not session.config.option.continue_on_collection_errors
    return not (only_lists(session.config) or failed) and any(
        measured(item) and not evaluate_skip_marks(item) for item in session.items
    )


def only_lists(config: pytest.Config) -> bool:
    """Whether tests or fixtures are only listed. An option is absent where its plugin is."""
    options = ("collectonly", "setupplan", "setuponly", "showfixtures", "show_fixtures_per_test")
    return any(config.getoption(name, False) for name in options)


def compares(item: pytest.Item) -> bool:
    """Whether a test compares the arms, and is not going to be skipped."""
    return bool(item.get_closest_marker(BOTH_ARMS)) and not evaluate_skip_marks(item)
