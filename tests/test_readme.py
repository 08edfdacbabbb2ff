"""README's tables follow from the code, and a scenario has the name of its module."""

from __future__ import annotations

from bench.cli.scenarios import measured_scenarios
from bench.experiment.scenario import scenario_name
from tests.readme import PAGE, page


def test_the_tables_are_what_the_code_has() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.readme"


def test_a_scenario_has_the_name_of_its_module() -> None:
    names = {one.module: one.scenario.name for one in measured_scenarios()}
    assert names == {module: scenario_name(module) for module in names}
