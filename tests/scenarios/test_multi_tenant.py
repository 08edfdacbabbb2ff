"""All models at once, at 50 % of the capacity that they share.

Each model has its own replicas, but they compete for the same cores, as tenants of one
node do. A long answer of one model slows its neighbours on that core.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import Poisson
from bench.load.plan.workload import Fixed, LogNormal, Workload
from bench.records import Expectation

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "All models at once: Poisson arrivals at 50 % of the capacity that they share; "
        "log-normal answer lengths."
    ),
    arrival=Poisson(load=0.5),
    workload=Workload(prompt=Fixed(64), output=LogNormal(median=16, sigma=1.0, low=4, high=160)),
    primary="scheduled_ttft_p95_s",
    expect=Expectation.NOT_WORSE,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, models: tuple[str, ...]) -> None:
    require_slo(measure(SCENARIO, *models))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, models: tuple[str, ...]) -> None:
    require_gates(measure(SCENARIO, *models))
