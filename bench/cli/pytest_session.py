"""What a run is: its options, what its tests can ask for, and what is printed at its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from bench.analysis.gates import outcome_line
from bench.analysis.judgement import Judgement
from bench.cli.options import add_options
from bench.cli.pytest_run import (
    CONFIG,
    OUTCOME,
    compares,
    errors_shown,
    make_environment,
    shown,
    write_reports,
)
from bench.cli.review import stored_run
from bench.cli.webhook import webhook_of
from bench.config.config import suite_facts
from bench.config.options import PYTEST
from bench.experiment.scenario import Scenario
from bench.experiment.session import Measure, Session
from bench.load.plan.traces.replay import Fit
from bench.progress import make_progress
from bench.records import Role
from bench.store import TrialStore
from reports.allure_results import attach_cases, label, step
from reports.formats import properties
from reports.run import Arms, setup_of
from reports.terminal import summary_text

# Checks options, collects tests and turns failed gates into failed tests.
pytest_plugins = ("bench.cli.pytest_plugin",)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the options that `bench.config.options` declares for pytest."""
    add_options(parser.getgroup("bench", "A/B comparison of LLM serving").addoption, PYTEST)


@pytest.fixture(scope="session")
def bench_session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """The environment and the experiment, brought up at the first question."""
    config = request.config.stash[CONFIG]
    with shown(request.config):
        # The real stream: pytest's own stand-ins keep what is written to them.
        progress = make_progress(sys.__stderr__)
    session = Session(
        config=config,
        compares=any(map(compares, request.session.items)),
        progress=progress,
        provenance=suite_facts(config, request.config.invocation_params.args),
        make_environment=lambda: make_environment(config, progress),
    )
    try:
        yield session
    finally:
        with shown(request.config):
            session.close()


@pytest.fixture
def traffic(request: pytest.FixtureRequest) -> Fit:
    """The trace that was given, fitted to the engine; for scenario recorded-traffic."""
    fitted = request.config.stash[CONFIG].traffic
    assert fitted is not None
    return fitted


@pytest.fixture
def models(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The names of all selected models."""
    return request.config.stash[CONFIG].model_names


@pytest.fixture
def treatment() -> Role:
    """The role of the treatment that a test judges; with several, each has a test of its own."""
    return "treatment"


@pytest.fixture
def measure(request: pytest.FixtureRequest, bench_session: Session, treatment: Role) -> Measure:
    """Measures a scenario for some models, at most once per run, and reports it."""

    def measure_once(scenario: Scenario, *models: str) -> Judgement:
        if reason := bench_session.why_not(scenario):
            pytest.skip(f"{scenario.name} {reason}")
        facts = bench_session.provenance
        names = facts["arms"]
        arms = {"control": names["control"], "treatment": names[treatment]}
        label(
            scenario.name,
            models,
            Arms(**arms),
            scenario.expect,
            arms | {name: facts[name] for name in ("profile", "seed")},
        )
        with shown(request.config), step(f"measure {scenario.name} on {', '.join(models)}"):
            rounds = bench_session.rounds(scenario, models, treatment)
        with step("judge"):
            attach_cases(
                rounds,
                setup_of(rounds[0].trials[0]),
                bench_session.factorial(scenario, models),
            )
        judgement = rounds[-1].judgement
        request.node.user_properties.extend(properties(judgement))
        return judgement

    return measure_once


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """The verdict table, judged again from what is on disk, and the files of the run."""
    checked = config.stash[CONFIG]
    store = TrialStore(checked.results)
    if not store.has_run(checked.run_id):
        return
    terminalreporter.section("verdicts")
    with errors_shown(terminalreporter):
        run = stored_run(store, checked.run_id)
        width, colour = terminalreporter._tw.fullwidth, terminalreporter._tw.hasmarkup
        text = summary_text(run.judgements, width=width, colour=colour, factorials=run.factorials)
        terminalreporter.write(text)
        latest, page = write_reports(checked, run, config.getoption("allure_report_dir", None))
        terminalreporter.write_line(f"results: {latest}, {page}")
        webhook = webhook_of(checked.options.webhook_env, os.environ)
        # What an interrupted run has measured so far is no verdict.
        if webhook is not None and exitstatus != pytest.ExitCode.INTERRUPTED:
            terminalreporter.write_line(webhook.post(latest.read_bytes()))
        config.stash[OUTCOME] = outcome_line(run.judgements)
