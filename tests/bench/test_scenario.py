"""Scenarios: impossible conditions are refused where they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.experiment.scenario import Scenario
from bench.load.plan.arrivals import Poisson
from bench.load.plan.workload import Fixed, Workload
from bench.records import Expectation

SCENARIO = Scenario(
    name="calm",
    description="",
    arrival=Poisson(load=0.5),
    workload=Workload(prompt=Fixed(32), output=Fixed(8)),
    primary="ttft_p50_s",
    expect=Expectation.NOT_WORSE,
)


@pytest.mark.parametrize(
    "condition",
    [{"balancers": 0}, {"bypass": -0.1}, {"bypass": 1.0}, {"slowed": 0.0}, {"slowed": 1.5}],
)
def test_impossible_conditions_are_refused(condition: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(SCENARIO, **condition)


def test_the_primary_metric_is_reported_first_and_once() -> None:
    facts = replace(SCENARIO, metrics=("output_tps", "ttft_p50_s")).facts({})
    assert facts.metrics == ("ttft_p50_s", "output_tps")
