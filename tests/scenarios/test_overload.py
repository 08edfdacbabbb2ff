"""150 % of capacity: a quiet tenant, and a greedy one that alone sends more than can be served.

In an engine a queue grows without end, and the quiet tenant waits in it like the one that made it.
In the balancer tenants take turns, and what is too much is rejected, later or sooner (`--arms
managed,admission`). Rejected requests have failed: they miss their objectives, and are counted for
each tenant.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import Poisson
from bench.load.plan.tenants import Mixture, Tenant
from bench.load.plan.workload import Fixed, LogNormal, Workload
from bench.records import Expectation

WORKLOAD = Workload(prompt=Fixed(64), output=LogNormal(median=16, sigma=1.0, low=4, high=160))
TENANTS = Mixture(
    (
        Tenant("quiet", Poisson(load=0.3), WORKLOAD),
        Tenant("greedy", Poisson(load=1.2), WORKLOAD),
    )
)

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "Two tenants with requests of the same kind, Poisson arrivals: a quiet one sends 30 % of "
        "capacity, a greedy one 120 %; log-normal answer lengths."
    ),
    arrival=TENANTS,
    workload=TENANTS,
    primary="scheduled_ttft_p90_s@quiet",
    expect=Expectation.NOT_WORSE,
    metrics=(
        "goodput_rps@quiet",
        "goodput_rps@greedy",
        "goodput_rps",
        "error_rate@quiet",
        "error_rate@greedy",
        "service_fairness",
    ),
    overload=True,
)


@pytest.mark.baseline
def test_control_is_measured(measure: Measure, models: tuple[str, ...]) -> None:
    # Where nothing is rejected no objective can be met for long.
    measure(SCENARIO, *models)


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, models: tuple[str, ...]) -> None:
    require_gates(measure(SCENARIO, *models))
