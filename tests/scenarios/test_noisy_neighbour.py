"""60 % of capacity: short requests of a quiet tenant, long ones of a noisy tenant in bursts.

What the quiet one gets is the question. A balancer that lets everything through at once makes it
wait behind the other's burst in the engine; one that holds back what an engine cannot run yet lets
tenants take turns (`--arms cache-aware,managed`). All models are asked at once, and the noisy
tenant's bursts come to all of them at the same time.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import STANDARD_METRICS, Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import OnOff, Poisson
from bench.load.plan.tenants import Mixture, Tenant
from bench.load.plan.workload import Fixed, Uniform, Workload
from bench.records import Expectation

TENANTS = Mixture(
    (
        Tenant("quiet", Poisson(load=0.3), Workload(prompt=Fixed(64), output=Fixed(8))),
        Tenant(
            "noisy",
            OnOff(load=0.3, on_s=0.5, off_s=1.25, ratio=3.5),
            Workload(prompt=Fixed(96), output=Uniform(16, 48)),
        ),
    )
)

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "Two tenants with as many requests, together at 60 % of capacity: a quiet one, and a "
        "noisy one whose answers are four times as long and come in bursts."
    ),
    arrival=TENANTS,
    workload=TENANTS,
    primary="scheduled_ttft_p90_s@quiet",
    expect=Expectation.NOT_WORSE,
    metrics=("scheduled_ttft_p90_s@noisy", "fairness", "service_fairness", *STANDARD_METRICS),
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, models: tuple[str, ...]) -> None:
    require_slo(measure(SCENARIO, *models))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, models: tuple[str, ...]) -> None:
    require_gates(measure(SCENARIO, *models))
