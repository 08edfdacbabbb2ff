"""Heavy tail, while one replica gets half of its core's time.

With two replicas a quarter of the capacity is gone. An even share of the requests is more
than the slowed replica can serve, and users pile up there.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.records import Expectation

from .common import (
    ALL_BUSY,
    ALL_BUSY_WORDS,
    HEAVY_TAIL,
    HEAVY_TAIL_WORDS,
)

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(f"One replica may use half of a core; {ALL_BUSY_WORDS}; {HEAVY_TAIL_WORDS}."),
    arrival=ALL_BUSY,
    workload=HEAVY_TAIL,
    primary="scheduled_ttft_p95_s",
    expect=Expectation.NOT_WORSE,
    slowed=0.5,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, first_model: str) -> None:
    require_slo(measure(SCENARIO, first_model))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, first_model: str) -> None:
    require_gates(measure(SCENARIO, first_model))
