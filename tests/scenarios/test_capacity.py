"""The load is searched for: how much each arm carries within its SLO.

The headline of a comparison. In each block the load of each arm goes up and down until it
is known where the share of requests that meet their objectives falls to the target.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.experiment.trial_order import Grid
from bench.load.plan.arrivals import Poisson
from bench.load.plan.workload import Fixed, LogNormal, Workload
from bench.records import Expectation

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "The load is searched for at which attainment falls to the target; log-normal answer "
        "lengths, Poisson arrivals."
    ),
    arrival=Poisson(load=0.75),
    workload=Workload(prompt=Fixed(64), output=LogNormal(median=16, sigma=1.0, low=4, high=160)),
    primary="carried_rps",
    expect=Expectation.NOT_WORSE,
    metrics=("carried_rps",),
    search=Grid(step=1.1),
)


@pytest.mark.baseline
def test_load_of_control_is_found(measure: Measure, model: str) -> None:
    require_slo(measure(SCENARIO, model))


@pytest.mark.managed
def test_treatment_carries_no_less_than_control(measure: Measure, model: str) -> None:
    require_gates(measure(SCENARIO, model))
