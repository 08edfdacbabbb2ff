"""The requests of staggered-peaks at a steady 50 % of capacity: what sharing memory costs.

An overhead control. No engine is short of memory, so there is nothing to gain, and what is paid
for sharing it shows in the time per output token. Scenario multi-tenant has the same load with
short requests.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import Poisson
from bench.records import Expectation

from .common import LONG, LONG_WORDS, MEMORY_METRICS

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "All models at once: Poisson arrivals at 50 % of the capacity that they share; "
        f"{LONG_WORDS}."
    ),
    arrival=Poisson(load=0.5),
    workload=LONG,
    primary="tpot_p50_s",
    expect=Expectation.NOT_WORSE,
    metrics=MEMORY_METRICS,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, models: tuple[str, ...]) -> None:
    require_slo(measure(SCENARIO, *models))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, models: tuple[str, ...]) -> None:
    require_gates(measure(SCENARIO, *models))
