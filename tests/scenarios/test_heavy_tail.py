"""Heavy tail with every place taken: a few answers are ten times as long as the rest.

There are as many users as the replicas have places. Round robin gives a replica its turn
however many long answers it still generates, so short requests queue behind them while
another replica has a place to spare. This is where routing by load has to pay off.
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
    name="heavy-tail",
    description=f"Every place taken: {ALL_PLACES_TAKEN_WORDS}; {HEAVY_TAIL_WORDS}.",
    arrival=ALL_PLACES_TAKEN,
    workload=HEAVY_TAIL,
    primary="scheduled_ttft_p95_s",
    expect=Expectation.BETTER,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, model: str) -> None:
    require_slo(measure(SCENARIO, model))


@pytest.mark.managed
def test_treatment_is_better_than_control(measure: Measure, model: str) -> None:
    require_gates(measure(SCENARIO, model))
