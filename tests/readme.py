"""The tables of README.md that follow from the code: `python -m tests.readme` writes them.

tests/test_readme.py fails while one differs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

from bench.experiment.scenario import Scenario
from bench.load.plan.traces.replay import Fit
from lb.policies import POLICIES
from reports import wording

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
# By the fixture that a test of the scenario takes: the models that are measured, in this order.
MODELS = {"model": "each", "models": "all at once", "first_model": "the first"}


def page() -> str:
    """README.md with its tables as they should be. Raises ValueError if a table has no marks."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("scenarios", scenario_table()), ("policies", policy_table())):
        begin, end = f"<!-- {name}: made by `make docs` -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"README.md lacks {begin!r} or {end!r}")
        text = "".join((before, begin, "\n", *(f"{line}\n" for line in lines), "\n", end, after))
    return text


def scenario_modules() -> list[ModuleType]:
    """The test module of every scenario, by name."""
    files = sorted((ROOT / "tests" / "scenarios").glob("test_*.py"))
    return [import_module(f"tests.scenarios.{file.stem}") for file in files]


def scenario_in(module: ModuleType) -> Scenario:
    """What a test module measures; a scenario that replays a trace gets a text in its place."""
    made = getattr(module, "SCENARIO", None) or module.replayed(cast(Fit, "a trace"))
    assert isinstance(made, Scenario)
    return made


def scenario_table() -> Iterator[str]:
    """The lines of the table of scenarios; those that every model is measured in come first."""
    yield "| scenario | what it does | models | primary metric | expected of the treatment |"
    yield "|---|---|---|---|---|"
    order = list(MODELS)
    for module in sorted(scenario_modules(), key=lambda one: order.index(fixture_of(one))):
        scenario, first_line = scenario_in(module), (module.__doc__ or "").partition("\n")[0]
        metric, expected = wording.metric(scenario.primary), scenario.expect.replace("-", " ")
        models = MODELS[fixture_of(module)]
        yield f"| {scenario.name} | {first_line} | {models} | {metric} | {expected} |"


def fixture_of(module: ModuleType) -> str:
    """The fixture by which the tests of a scenario get their models."""
    tests = [one for name, one in vars(module).items() if name.startswith("test_")]
    used = {name for test in tests for name in inspect.signature(test).parameters}
    (found,) = used & MODELS.keys()
    return found


def policy_table() -> Iterator[str]:
    """The lines of the table of policies, by port."""
    yield "| policy | port | rule |"
    yield "|---|---|---|"
    for name, entry in sorted(POLICIES.items(), key=lambda one: one[1].default_port):
        yield f"| {name} | {entry.default_port} | {entry.summary} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
