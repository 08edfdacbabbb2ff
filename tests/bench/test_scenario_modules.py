"""Adding a scenario is one module: its name and marker follow, and README has a row for it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import cast

import pytest

from bench.cli.pytest_plugin import scenario_modules
from bench.experiment.scenario import Scenario, scenario_name
from bench.load.plan.traces import Fit
from reports import wording

README = Path(__file__).parents[2] / "README.md"


def scenario_in(module: str) -> Scenario:
    loaded = importlib.import_module(f"tests.scenarios.{module}")
    made = getattr(loaded, "SCENARIO", None) or loaded.replayed(cast(Fit, "a trace"))
    assert isinstance(made, Scenario)
    return made


@pytest.mark.parametrize("module", scenario_modules())
def test_a_scenario_has_the_name_of_its_module_and_a_row_in_the_readme(module: str) -> None:
    scenario = scenario_in(module)
    assert scenario.name == scenario_name(module)
    metric, expected = wording.metric(scenario.primary), scenario.expect.replace("-", " ")
    row = f"| {scenario.name} | LOAD | {metric[0].lower()}{metric[1:]} | {expected} |"
    pattern = re.escape(row).replace("LOAD", "[^|]+")
    assert re.search(pattern, README.read_text(encoding="utf-8")), f"no row {row} in README.md"
