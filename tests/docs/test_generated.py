"""The reference follows from the code, and a scenario has the name of its module."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli.scenarios import measured_scenarios
from bench.experiment.scenario import scenario_name
from tests.docs.generated import pages

MADE = pages()


@pytest.mark.parametrize("page", MADE, ids=lambda page: page.name)
def test_a_page_is_what_the_code_has(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == MADE[page], "run python -m tests.docs.generated"


def test_a_scenario_has_the_name_of_its_module() -> None:
    names = {one.module: one.scenario.name for one in measured_scenarios()}
    assert names == {module: scenario_name(module) for module in names}
