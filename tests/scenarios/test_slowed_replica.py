"""One replica gets half of its core's time, as a noisy neighbour or a quota makes it.

With two replicas a quarter of the capacity is gone. An even share of the requests is more
than the slowed replica can serve, and users pile up there.
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
    name="slowed-replica",
    description=(
        f"One replica may use half of a core; {ALL_PLACES_TAKEN_WORDS}; {HEAVY_TAIL_WORDS}."
    ),
    arrival=ALL_PLACES_TAKEN,
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
