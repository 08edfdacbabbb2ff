"""Heavy tail, of which a fifth bypasses the balancer and goes to one replica.

A batch job or an old client knows that replica's address. An even share of the rest is then
uneven load. A balancer cannot know this from what it has sent itself, only from what the replicas
report, or from how long they take.
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
        "20 % of the requests go straight to one replica, and are not judged; "
        f"{ALL_BUSY_WORDS}; {HEAVY_TAIL_WORDS}."
    ),
    arrival=ALL_BUSY,
    workload=HEAVY_TAIL,
    primary="scheduled_ttft_p95_s",
    expect=Expectation.NOT_WORSE,
    bypass=0.2,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, first_model: str) -> None:
    require_slo(measure(SCENARIO, first_model))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, first_model: str) -> None:
    require_gates(measure(SCENARIO, first_model))
