"""The plugin of pytest that checks options, collects tests and turns errors into failures."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.gates import GateFailedError, Outcome, outcome_of_gates
from bench.cli.options import read_options
from bench.cli.pytest_run import (
    BOTH_ARMS,
    CONFIG,
    CONTROL_ALONE,
    OUTCOME,
    errors_shown,
    measured,
    measures,
    only_lists,
    shown,
)
from bench.cli.scenarios import FOLDER, SCENARIOS
from bench.cli.webhook import webhook_of
from bench.config.config import new_run_id, resolve
from bench.config.options import PYTEST
from bench.errors import UserError, writing
from bench.experiment.scenario import scenario_name
from bench.paths import ROOT
from bench.store import TrialStore
from reports.allure_results import WriteGuard, mark_interrupted
from reports.result_files import clear

GUARD = pytest.StashKey[WriteGuard]()
ALLURE_RESULTS = ROOT / "allure-results"
OPERATORS = {"and", "or", "not"}
MEANINGS = {
    CONTROL_ALONE: "measures the control alone; its SLOs must be met",
    BOTH_ARMS: "measures control and treatment; the treatment's SLOs and the verdict must hold",
}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check the options before anything is collected; first, since Allure reads one."""
    run_id = getattr(config, "workerinput", {}).get("run_id")
    run_id = run_id or new_run_id(TrialStore(ROOT / "results").latest_run())
    try:
        checked = resolve(read_options(vars(config.option), PYTEST), ROOT, run_id)
        webhook_of(checked.options.webhook_env, os.environ)
        names = set(map(scenario_name, scenario_modules()))
        checked.slos.check_names(names, {*checked.topology.models, *checked.model_names})
        if hasattr(config.option, "allure_report_dir"):  # its plugin is here
            folder = config.option.allure_report_dir or str(ALLURE_RESULTS)
            config.option.allure_report_dir = folder
            with writing():
                Path(folder).mkdir(parents=True, exist_ok=True)
            guard = config.stash[GUARD] = WriteGuard()
            config.add_cleanup(guard.remove)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[CONFIG] = checked
    for marker, meaning in MEANINGS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")
    for module, meaning in scenario_modules().items():
        config.addinivalue_line("markers", f"{scenario_marker(module)}: {meaning}")
    _check_marker_expression(config)
    by_default = config.args_source is config.ArgsSource.TESTPATHS
    if by_default and wants_scenarios(config.option.markexpr):
        # Thousands of other tests need not be imported to be left out.
        config.args = [str(SCENARIOS)]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test of a scenario with the scenario."""
    if item.path.parent == SCENARIOS:
        item.add_marker(scenario_marker(item.path.stem))


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    """Let the workers of pytest-xdist inherit the real stderr, for their progress."""
    with shown(session.config):
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let the workers of pytest-xdist store under the controller's run."""
    node.workerinput["run_id"] = node.config.stash[CONFIG].run_id


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One worker runs all measured tests, one after another; others go by their files."""
    if config.getoption("dist") != "load":
        return None
    # Only pytest-xdist calls this hook: where it is absent, it is not imported.
    scheduler = import_module("xdist.scheduler").LoadScopeScheduling(config, log)
    scheduler._split_scope = scope
    return scheduler


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`model` is every selected one in turn, `first_model` only the first of them.

    Of several treatments each has a test of its own; that of one that is not installed is skipped.
    """
    if not measured(metafunc.definition):
        return
    config = metafunc.config.stash[CONFIG]
    names, treatments = config.model_names, list(config.arms)[1:]
    for fixture, values in (("model", names), ("first_model", names[:1])):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, values)
    if len(treatments) + len(config.absent) == 1:
        return
    if metafunc.definition.get_closest_marker(BOTH_ARMS):
        present = (pytest.param(role, id=config.arms[role].name) for role in treatments)
        absent = (
            pytest.param(name, id=name, marks=pytest.mark.skip(reason=line))
            for name, line in config.absent.items()
        )
        metafunc.parametrize("treatment", [*present, *absent])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a trace where none was given."""
    if config.stash[CONFIG].traffic is None:
        for item in items:
            if "traffic" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason="no recorded traffic: give --traffic FILE"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """A run that measures begins a new report; other runs leave the last one alone."""
    config = session.config
    folder = getattr(config.option, "allure_report_dir", None)
    if measures(session):
        # Of several workers one clears it: none starts a test before all have come here.
        first = getattr(config, "workerinput", {}).get("workerid", "gw0") == "gw0"
        if folder is not None and first:
            try:
                clear(Path(folder))
            except UserError as error:
                raise pytest.UsageError(str(error)) from None
    elif listener := config.pluginmanager.get_plugin("allure_listener"):
        config.pluginmanager.unregister(listener)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A UserError and a gate that does not hold fail the test without a traceback."""
    try:
        yield
    except GateFailedError as error:
        outcome = outcome_of_gates(failure.gate for failure in error.failures)
        if outcome is Outcome.UNDECIDED and item.config.stash[CONFIG].options.undecided == "pass":
            return
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    except UserError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    except KeyboardInterrupt:
        if listener := item.config.pluginmanager.get_plugin("allure_listener"):
            mark_interrupted(listener)
        raise


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which no test passed or failed is no success."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or only_lists(session.config) or exitstatus != pytest.ExitCode.OK:
        return
    if not any(reporter.stats.get(kind) for kind in ("passed", "failed", "error")):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Say what `-k` takes where it selected nothing. Fail where Allure's results are not whole."""
    keyword, skipped = config.option.keyword, terminalreporter.stats.get("skipped")
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and keyword and not skipped:
        known = ", ".join(map(scenario_marker, scenario_modules()))
        terminalreporter.write_line(
            f"no test is selected by -k {keyword!r}; it takes names of scenarios ({known}), "
            "of models and of tests"
        )
    guard = config.stash.get(GUARD, None)
    if guard is not None and guard.error is not None:
        with errors_shown(terminalreporter):
            raise guard.error


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Print the outcome as the last line, for programs."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and (line := config.stash.get(OUTCOME, None)) is not None:
        reporter.write_line(line)


def scope(nodeid: str) -> str:
    """Tests with the same scope are run by one worker."""
    path = nodeid.partition("::")[0]
    return "measured" if path.startswith(f"{FOLDER}/") else path


@cache
def scenario_modules() -> dict[str, str]:
    """The test module of each scenario, and the first line of its docstring."""
    texts = {path.stem: path.read_text("utf-8") for path in sorted(SCENARIOS.glob("test_*.py"))}
    docstrings = {name: ast.get_docstring(ast.parse(text)) for name, text in texts.items()}
    return {name: (written or "").partition("\n")[0] for name, written in docstrings.items()}


def scenario_marker(module: str) -> str:
    """The marker of a scenario by its test module: `heavy_tail` of `test_heavy_tail`."""
    return scenario_name(module).replace("-", "_")


def wants_scenarios(expression: str) -> bool:
    """Whether `-m` selects tests of scenarios alone: a marker of theirs is among those it wants."""
    words = set(re.findall(r"\w+", expression))
    own = {*MEANINGS, *map(scenario_marker, scenario_modules())}
    return bool(words & own) and not words & {"or", "not"}


def _check_marker_expression(config: pytest.Config) -> None:
    """Refuse `-m` with a marker that does not exist: it would select nothing."""
    known = {line.split(":")[0].split("(")[0].strip() for line in config.getini("markers")}
    used = set(re.findall(r"[A-Za-z_]\w*", config.option.markexpr)) - OPERATORS
    if unknown := sorted(used - known):
        raise pytest.UsageError(
            f"unknown marker {unknown[0]!r} in -m; known: {', '.join(sorted(known))}"
        )
