"""Saturation: four users for each request that replicas run at once. All are always busy.

A balancer cannot create capacity. What it can do is waste it, by leaving one replica
idle while another has a backlog; the scenario guards against that.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import ClosedLoop
from bench.load.plan.workload import Fixed, Uniform, Workload
from bench.records import Expectation

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "Saturation: a closed loop keeps four times as many requests in flight as the replicas "
        "run at once."
    ),
    arrival=ClosedLoop(per_sequence=4),
    workload=Workload(prompt=Uniform(32, 96), output=Fixed(32)),
    primary="output_tps",
    expect=Expectation.NOT_WORSE,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, model: str) -> None:
    require_slo(measure(SCENARIO, model))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, model: str) -> None:
    require_gates(measure(SCENARIO, model))
