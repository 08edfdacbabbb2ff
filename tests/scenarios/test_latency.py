"""Moderate load: 45 % of capacity, requests of similar sizes.

Requests of similar size at 45 % of capacity leave a balancer little to improve; the
scenario guards against one that makes the common case worse.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import Poisson
from bench.load.plan.workload import Uniform, Workload
from bench.records import Expectation

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description="Moderate load: Poisson arrivals at 45 % of capacity, similar sizes.",
    arrival=Poisson(load=0.45),
    workload=Workload(prompt=Uniform(32, 96), output=Uniform(16, 48)),
    primary="scheduled_ttft_p95_s",
    expect=Expectation.NOT_WORSE,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, model: str) -> None:
    require_slo(measure(SCENARIO, model))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, model: str) -> None:
    require_gates(measure(SCENARIO, model))
