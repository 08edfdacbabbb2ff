"""pytest is the interface: options, selection, fixtures, summary and exit code."""

from __future__ import annotations

import datetime
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from _pytest.skipping import evaluate_skip_marks

from bench.analysis.gates import GateFailedError
from bench.analysis.judgement import Judgement
from bench.analysis.outcome import Outcome, outcome_line, outcome_of, outcome_of_gates
from bench.cli.review import review
from bench.config.config import ENVIRONMENTS, Config, Options, new_run_id, resolve
from bench.config.profiles import PROFILES
from bench.drivers import DRIVERS
from bench.environments.base import Environment
from bench.environments.kubernetes.cluster import Access
from bench.environments.kubernetes.environment import KubernetesEnvironment
from bench.environments.local import LocalEnvironment
from bench.errors import UserError
from bench.load.traces import Fit
from bench.progress import Progress, make_progress
from bench.provenance import suite_facts
from bench.scenario import Scenario
from bench.session import Measure, Session
from bench.store import TrialStore, write_latest
from bench.store.files import write_whole
from reports.allure_results import attach_cases, attach_run, label, mark_interrupted, step
from reports.case import Case, Run
from reports.page import render_page
from reports.result_files import clear, write_run
from reports.run import run_of, setup_of
from reports.terminal import summary_text

ROOT = Path(__file__).parent
ALLURE_RESULTS = ROOT / "allure-results"
CONFIG = pytest.StashKey[Config]()
OUTCOME = pytest.StashKey[str]()
OPERATORS = {"and", "or", "not"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options are the fields of `Options`; the texts are what `--help` shows."""
    add = parser.getgroup("bench", "A/B comparison of LLM serving").addoption
    default = Options()
    add(
        "--env",
        default=default.env,
        metavar="ENV",
        help=f"where engines run: {', '.join(ENVIRONMENTS)} (default: {default.env})",
    )
    add(
        "--models",
        default=default.models,
        metavar="A,B",
        help="models of the topology file to measure (default: all for the environment's hardware)",
    )
    add(
        "--arms",
        default=default.arms,
        metavar="CONTROL,TREATMENT",
        help=f"arms to compare (default: {default.arms}); "
        "one arm twice is an A/A run, which shows the noise floor",
    )
    add(
        "--profile",
        default=default.profile,
        metavar="NAME",
        help=f"time for a comparison: {', '.join(PROFILES)} (default: {default.profile})",
    )
    add(
        "--slo",
        type=Path,
        default=default.slo,
        metavar="FILE",
        help="service level objectives (default: bench/slo.yaml)",
    )
    add(
        "--topology",
        type=Path,
        default=default.topology,
        metavar="FILE",
        help="models, replicas and arms (default: bench/topology.yaml)",
    )
    add(
        "--seed",
        type=int,
        default=default.seed,
        metavar="N",
        help=f"seed of every schedule and prompt (default: {default.seed})",
    )
    add(
        "--keep-env",
        action="store_true",
        help="leave the engines running for the next run; `python -m bench env stop` ends them",
    )
    add(
        "--load-processes",
        default=default.load_processes,
        metavar="N",
        help="processes that share the load of a trial, in environment k8s pods (default: auto, "
        "one until its answers are too many for one; in k8s one)",
    )
    add(
        "--driver",
        default=default.driver,
        metavar="NAME",
        help=f"what sends the load: {', '.join(DRIVERS)} (default: {default.driver})",
    )
    add(
        "--traffic",
        type=Path,
        default=default.traffic,
        metavar="FILE",
        help="a trace for scenario recorded-traffic: Azure LLM inference or BurstGPT (CSV), "
        "Mooncake or Qwen-Bailian (JSON lines)",
    )
    add(
        "--hardware",
        default=default.hardware,
        metavar="cpu|gpu",
        help="what engines run on (default: cpu for local, gpu for k8s)",
    )
    add(
        "--kubeconfig",
        type=Path,
        default=default.kubeconfig,
        metavar="FILE",
        help="cluster of environment k8s (default: $KUBECONFIG, ~/.kube/config)",
    )
    add(
        "--context",
        default=default.context,
        metavar="NAME",
        help="context of the kubeconfig (default: its current one)",
    )
    add(
        "--ready-timeout",
        type=float,
        default=default.ready_timeout,
        metavar="S",
        help="how long replicas in a cluster may take to become ready (default: "
        f"{default.ready_timeout:g} seconds)",
    )
    add(
        "--undecided",
        default=default.undecided,
        metavar="fail|pass",
        help="what becomes of a test whose comparison noise leaves undecided (default: "
        f"{default.undecided})",
    )
    add(
        "--traffic-cut",
        default=default.traffic_cut,
        metavar="FROM:TO",
        help="seconds of the trace to use (default: all)",
    )


# A busy machine says nothing about a property.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check the options before anything is collected; first, since Allure reads one."""
    options = Options(**{field.name: config.getoption(field.name) for field in fields(Options)})
    run_id = getattr(config, "workerinput", {}).get("run_id") or new_run_id()
    try:
        checked = resolve(options, ROOT, run_id)
        checked.slos.check_names(scenario_names(), set(checked.topology.models))
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[CONFIG] = checked
    _check_marker_expression(config)
    if getattr(config.option, "allure_report_dir", "") is None:
        config.option.allure_report_dir = str(ALLURE_RESULTS)


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
    # Where pytest-xdist is absent, nobody asks.
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415

    if config.getoption("dist") != "load":
        return None
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = scope
    return scheduler


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`model` is every selected one in turn, `first_model` only the first of them."""
    if not measured(metafunc.definition):
        return
    names = metafunc.config.stash[CONFIG].model_names
    for fixture, values in (("model", names), ("first_model", names[:1])):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, values)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    no_traffic = pytest.mark.skip(reason="no recorded traffic: give --traffic FILE")
    for item in items:
        if config.stash[CONFIG].traffic is None and item.get_closest_marker("recorded_traffic"):
            item.add_marker(no_traffic)


def pytest_collection_finish(session: pytest.Session) -> None:
    """A run that measures begins a new report; other runs leave the last one alone."""
    config = session.config
    folder = getattr(config.option, "allure_report_dir", None)
    if measures(session):
        # Of several workers one clears it: none starts a test before all have come here.
        first = getattr(config, "workerinput", {}).get("workerid", "gw0") == "gw0"
        if folder is not None and first:
            clear(Path(folder))
    elif listener := config.pluginmanager.get_plugin("allure_listener"):
        config.pluginmanager.unregister(listener)


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
        provenance=suite_facts(config, ROOT, request.config.invocation_params.args),
        make_environment=lambda: make_environment(config, progress),
    )
    try:
        yield session
    finally:
        with shown(request.config):
            session.close()


def make_environment(config: Config, progress: Progress) -> Environment:
    """The environment that the options name; nothing is started yet."""
    if config.env == "k8s":
        return KubernetesEnvironment(
            Access.chosen(config.kubeconfig, config.context, os.environ),
            (config.control, config.treatment),
            config.cache,
            progress,
            places=config.load_processes or 1,
            timeout_s=config.ready_timeout_s,
            keep=config.keep_env,
        )
    return LocalEnvironment(config.cache, config.topology, progress, keep=config.keep_env)


@pytest.fixture
def traffic(request: pytest.FixtureRequest) -> Fit:
    """The trace that was given, fitted to the engine; for tests marked recorded_traffic."""
    fitted = request.config.stash[CONFIG].traffic
    assert fitted is not None
    return fitted


@pytest.fixture
def models(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The names of all selected models."""
    return request.config.stash[CONFIG].model_names


@pytest.fixture
def measure(request: pytest.FixtureRequest, bench_session: Session) -> Measure:
    """Measures a scenario for some models, at most once per run, and reports it."""

    def measure_once(scenario: Scenario, *models: str) -> Judgement:
        config = request.config.stash[CONFIG]
        label(scenario.name, models, {"profile": config.profile.name, "seed": config.seed})
        with shown(request.config), step(f"measure {scenario.name} on {', '.join(models)}"):
            rounds = bench_session.rounds(scenario, models)
        with step("judge"):
            cases = [Case(one.judgement, one.trials) for one in rounds]
            attach_cases(cases, setup_of(rounds[0].trials[0]))
        judgement = rounds[-1].judgement
        request.node.user_properties.extend(properties(judgement))
        return judgement

    return measure_once


def properties(judgement: Judgement) -> Iterator[tuple[str, object]]:
    """What JUnit's XML says of a comparison."""
    yield "outcome", str(outcome_of(judgement))
    if (primary := judgement.primary) is not None:
        yield "verdict", str(primary.verdict)
        for name in ("metric", "ratio", "low", "high", "blocks"):
            yield name, getattr(primary, name)


@contextmanager
def shown(config: pytest.Config) -> Iterator[None]:
    """Let progress through while pytest captures output."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with nullcontext() if capture is None else capture.global_and_fixture_disabled():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A mistake of the user and a gate that does not hold are told without a traceback."""
    try:
        yield
    except GateFailedError as error:
        outcome = outcome_of_gates(failure.gate for failure in error.failures)
        if outcome is Outcome.UNDECIDED and item.config.stash[CONFIG].undecided == "pass":
            return
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    except UserError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    except KeyboardInterrupt:
        if listener := item.config.pluginmanager.get_plugin("allure_listener"):
            mark_interrupted(listener)
        raise


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The verdict table, judged again from what is on disk, and the files of the run."""
    checked = config.stash[CONFIG]
    store = TrialStore(checked.results)
    if not store.has_run(checked.run_id):
        return
    terminalreporter.section("verdicts")
    try:
        reviewed = review(store, checked.run_id)
        cases = [Case(judgement, tuple(trials)) for judgement, trials in reviewed]
        run = run_of(cases, f"{datetime.datetime.now().astimezone():%d %B %Y, %H:%M}")
        width, colour = terminalreporter._tw.fullwidth, terminalreporter._tw.hasmarkup
        terminalreporter.write(summary_text(run.judgements, width=width, colour=colour))
        latest, page = write_reports(checked, run, config.getoption("allure_report_dir", None))
    except (UserError, OSError) as error:
        # Told last and in one line: what was measured is on disk and can be judged again.
        terminalreporter.write_line(f"error: {told(error)}")
        assert terminalreporter._session is not None
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED
    else:
        terminalreporter.write_line(f"results: {latest}, {page}")
        config.stash[OUTCOME] = outcome_line(run.judgements)


def write_reports(checked: Config, run: Run, allure: str | None) -> tuple[Path, Path]:
    """Write what is made from the trials: the figures, the page, and what Allure shows.

    `allure` is its folder, None where its plugin is absent.
    """
    latest, page = checked.results / "latest.json", checked.results / "comparison.html"
    write_latest(latest, run.judgements, {**run.facts, "provenance": run.provenance})
    write_whole(page, render_page(run).encode())
    if allure is not None:
        write_run(Path(allure), run)
        attach_run(run)
    return latest, page


def told(error: UserError | OSError) -> str:
    """One line for people."""
    if isinstance(error, UserError):
        return str(error)
    where = error.filename or "the reports"
    return f"cannot write {where}: {error.strerror}; free some space or mend the folder"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which nothing was decided must not look like a success."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or only_told(session.config) or exitstatus != pytest.ExitCode.OK:
        return
    if not any(reporter.stats.get(kind) for kind in ("passed", "failed", "error")):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line is for programs: pytest's exit code tells less."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and (line := config.stash.get(OUTCOME, None)) is not None:
        reporter.write_line(line)


def scope(nodeid: str) -> str:
    """What tests must have in common to be run by one worker."""
    path = nodeid.partition("::")[0]
    return "measured" if path.startswith("tests/scenarios/") else path


def measured(item: pytest.Item) -> bool:
    """Whether a test measures an arm."""
    return any(item.get_closest_marker(name) for name in ("baseline", "managed"))


def measures(session: pytest.Session) -> bool:
    """Whether this run is going to measure: not if it only tells of tests, skips or fails them."""
    failed = session.testsfailed and not session.config.option.continue_on_collection_errors
    return not (only_told(session.config) or failed) and any(
        measured(item) and not evaluate_skip_marks(item) for item in session.items
    )


def only_told(config: pytest.Config) -> bool:
    """Whether tests are only listed or explained. An option is absent where its plugin is."""
    options = ("collectonly", "setupplan", "setuponly", "showfixtures", "show_fixtures_per_test")
    return any(config.getoption(name, False) for name in options)


def compares(item: pytest.Item) -> bool:
    """Whether a test compares the arms, and is not going to be skipped."""
    return bool(item.get_closest_marker("managed")) and not evaluate_skip_marks(item)


def scenario_names() -> set[str]:
    """Scenarios are named after their modules: test_heavy_tail.py holds heavy-tail."""
    modules = (ROOT / "tests" / "scenarios").glob("test_*.py")
    return {module.stem.removeprefix("test_").replace("_", "-") for module in modules}


def _check_marker_expression(config: pytest.Config) -> None:
    """Refuse `-m` with a marker that does not exist: it would select nothing."""
    known = {line.split(":")[0].split("(")[0].strip() for line in config.getini("markers")}
    used = set(re.findall(r"[A-Za-z_]\w*", config.option.markexpr)) - OPERATORS
    if unknown := sorted(used - known):
        raise pytest.UsageError(
            f"unknown marker {unknown[0]!r} in -m; known: {', '.join(sorted(known))}"
        )
