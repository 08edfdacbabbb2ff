"""Heavy tail: all replicas are busy, and 15 % of answers are ten times as long as the rest.

There are as many users as the replicas run requests at once. Round robin gives a replica its
turn however many long answers it still generates, so short requests queue behind them while
another replica could run one more. This is where routing by load has to pay off.
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
    description=f"All replicas are busy: {ALL_BUSY_WORDS}; {HEAVY_TAIL_WORDS}.",
    arrival=ALL_BUSY,
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
