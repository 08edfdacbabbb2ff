"""A plugin for pytest: what is measured is made up, and stored as a run stores it.

All else of a run is as ever. $MEASURED has the ratio of the arms, or `not` where nothing can be
measured.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bench.analysis.judgement import Case
from bench.errors import UserError
from bench.experiment.scenario import Scenario
from bench.experiment.session import Session
from bench.records import Role
from bench.store import TrialStore
from tests.bench.making import paired
from tests.reports.cases import judged


def pytest_configure(config: pytest.Config) -> None:
    """Measure nothing in this process."""
    pytest.MonkeyPatch().setattr(Session, "rounds", _rounds)


def _rounds(
    self: Session, scenario: Scenario, models: tuple[str, ...], role: Role
) -> tuple[Case, ...]:
    assert role == "treatment", "the only one"
    wanted = os.environ["MEASURED"]
    if wanted == "not":
        raise UserError("engines did not come up")
    treatment_s = tuple(float(ratio) for ratio in wanted.split(","))
    trials = [
        replace(
            one,
            run_id=self.config.run_id,
            models=models,
            scenario=replace(one.scenario, name=scenario.name, expect=scenario.expect),
            samples=tuple(replace(sample, model=models[0]) for sample in one.samples),
            provenance=dict(self.provenance),
        )
        for one in paired((1.0,) * len(treatment_s), treatment_s)
    ]
    store = TrialStore(self.config.results)
    for one in trials:
        store.save(one)
    return (judged(trials),)
