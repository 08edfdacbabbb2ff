"""Bursts of twice the mean rate, at 50 % of capacity on average.

A burst fills the replicas within one polling interval, so a balancer that relies on
polled gauges alone decides blindly just when it matters.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import OnOff
from bench.load.plan.workload import Fixed, LogNormal, Workload
from bench.records import Expectation

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "Bursts: on/off arrivals, 1 s at twice the mean rate and 1 s silent, "
        "50 % of capacity on average; log-normal answer lengths."
    ),
    arrival=OnOff(load=0.5, on_s=1.0, off_s=1.0, ratio=2.0),
    workload=Workload(prompt=Fixed(64), output=LogNormal(median=16, sigma=1.0, low=4, high=160)),
    primary="scheduled_ttft_p95_s",
    expect=Expectation.NOT_WORSE,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, model: str) -> None:
    require_slo(measure(SCENARIO, model))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, model: str) -> None:
    require_gates(measure(SCENARIO, model))
