"""A fifth of the traffic bypasses the balancer, all of it onto one replica.

Somebody's batch job or an old client knows that replica's address. To share the rest
evenly is then uneven, and what a balancer has sent itself does not tell: only what the
replicas report does, or how long they take.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.records import Expectation
from bench.scenario import Scenario
from bench.session import Measure
from tests.scenarios.common import (
    ALL_PLACES_TAKEN,
    ALL_PLACES_TAKEN_WORDS,
    HEAVY_TAIL,
    HEAVY_TAIL_WORDS,
)

SCENARIO = Scenario(
    name="bypass",
    description=(
        "20 % of the requests go straight to one replica, and are not judged; "
        f"{ALL_PLACES_TAKEN_WORDS}; {HEAVY_TAIL_WORDS}."
    ),
    arrival=ALL_PLACES_TAKEN,
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
