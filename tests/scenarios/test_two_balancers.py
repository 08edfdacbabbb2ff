"""Heavy tail, with two balancers of each arm over the same replicas.

Each sees half of the requests and knows nothing of the other's. What it counts itself is
half of the truth, and what it polls is the same as what the other does: two that act on it
alike send their requests to the same replica.
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
    description=(
        "Two balancers that get the requests in turn; otherwise heavy-tail: "
        f"{ALL_BUSY_WORDS}; {HEAVY_TAIL_WORDS}."
    ),
    arrival=ALL_BUSY,
    workload=HEAVY_TAIL,
    primary="scheduled_ttft_p95_s",
    expect=Expectation.NOT_WORSE,
    balancers=2,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, first_model: str) -> None:
    require_slo(measure(SCENARIO, first_model))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, first_model: str) -> None:
    require_gates(measure(SCENARIO, first_model))
