"""Scenarios: impossible conditions are refused where they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.experiment.scenario import Scenario
from bench.load.plan.arrivals import Poisson
from bench.load.plan.workload import Fixed, Scaled, Workload
from bench.records import Expectation

SCENARIO = Scenario(
    name="calm",
    description="",
    arrival=Poisson(load=0.5),
    workload=Workload(prompt=Fixed(32), output=Fixed(8)),
    primary="ttft_p50_s",
    expect=Expectation.NOT_WORSE,
)

LARGE = Workload(prompt=Fixed(2048), output=Fixed(512))


@pytest.mark.parametrize(
    "condition",
    [{"balancers": 0}, {"bypass": -0.1}, {"bypass": 1.0}, {"slowed": 0.0}, {"slowed": 1.5}],
)
def test_impossible_conditions_are_refused(condition: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(SCENARIO, **condition)


def test_a_workload_for_gpus_is_fitted_and_the_description_says_how() -> None:
    large = replace(SCENARIO, workload=Scaled(LARGE))
    assert large.fitted(8192, None).description == large.description
    fitted = large.fitted(2048, 128)
    assert fitted.workload == Scaled(LARGE, 0.05, 2048)
    assert "Lengths x 0.05" in fitted.description
    assert SCENARIO.fitted(2048, 128) == SCENARIO


def test_the_primary_metric_is_reported_first_and_once() -> None:
    facts = replace(SCENARIO, metrics=("output_tps", "ttft_p50_s")).facts({})
    assert facts.metrics == ("ttft_p50_s", "output_tps")
