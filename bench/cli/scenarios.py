"""What the tests of scenarios measure and assert, read from their modules."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath
from types import FunctionType, ModuleType
from typing import cast

from bench.analysis.gates import require_gates, require_slo
from bench.errors import UserError
from bench.experiment.scenario import Scenario
from bench.load.plan.traces.replay import Fit
from bench.paths import IN_CHECKOUT, PACKAGES

# In a checkout they are tests; setup.py gives them another place in the wheel.
FOLDER = PurePosixPath("tests/scenarios" if IN_CHECKOUT else "bench/scenarios")
SCENARIOS = PACKAGES / FOLDER
# By the fixture that a test of the scenario takes: the models that are measured, in this order.
MODELS = {"model": "each", "models": "all at once", "first_model": "the first"}
# What a test asks of the judgement, by the function that it calls.
_REQUIRES = {
    require_gates.__name__: ("verdict", "SLO of the treatment"),
    require_slo.__name__: ("SLO of the control",),
}


@dataclass(frozen=True, slots=True)
class ScenarioTest:
    """A test of a scenario: its markers, what it `requires`, and its `assert` statements.

    One without either only records what it measures.
    """

    name: str
    markers: tuple[str, ...]
    requires: tuple[str, ...]
    asserts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeasuredScenario:
    """A scenario, the name of its module, and the module's docstring.

    `summary` is the docstring's first line and `why` the rest of it, on one line.
    """

    module: str
    scenario: Scenario
    summary: str
    why: str
    models: str
    tests: tuple[ScenarioTest, ...]


def measured_scenarios() -> tuple[MeasuredScenario, ...]:
    """Every scenario that has tests, by `MODELS` and name. Raises UserError if there is none."""
    files = sorted(SCENARIOS.glob("test_*.py"))
    if not files:
        raise UserError(f"no scenarios under {SCENARIOS}; run this in a checkout of the suite")
    package = ".".join(FOLDER.parts)
    found = [_measured(import_module(f"{package}.{file.stem}")) for file in files]
    return tuple(sorted(found, key=lambda one: list(MODELS.values()).index(one.models)))


def _measured(module: ModuleType) -> MeasuredScenario:
    summary, _, why = (inspect.getdoc(module) or "").partition("\n")
    functions = [
        one
        for name, one in vars(module).items()
        if name.startswith("test_") and isinstance(one, FunctionType)
    ]
    used = {name for one in functions for name in inspect.signature(one).parameters}
    (fixture,) = used & MODELS.keys()
    return MeasuredScenario(
        module=module.__name__,
        scenario=_scenario_in(module),
        summary=summary,
        why=" ".join(why.split()),
        models=MODELS[fixture],
        tests=tuple(map(_test, functions)),
    )


def _scenario_in(module: ModuleType) -> Scenario:
    """What a module measures; a scenario that replays a trace gets a text in its place."""
    made = getattr(module, "SCENARIO", None) or module.replayed(cast(Fit, "a trace"))
    assert isinstance(made, Scenario)
    return made


def _test(function: FunctionType) -> ScenarioTest:
    marks = getattr(function, "pytestmark", ())
    called = function.__code__.co_names
    return ScenarioTest(
        name=function.__name__,
        markers=tuple(mark.name for mark in marks),
        requires=tuple(what for name in called for what in _REQUIRES.get(name, ())),
        asserts=tuple(_asserts(function)),
    )


def _asserts(function: FunctionType) -> Iterator[str]:
    for node in ast.walk(ast.parse(inspect.getsource(function))):
        if isinstance(node, ast.Assert):
            yield ast.unparse(node.test)
