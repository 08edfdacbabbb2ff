"""45 % of capacity; every turn sends all that was said before it.

A replica that served the turns before has them in its cache and only computes what is
new. A policy that sends a conversation elsewhere pays for the whole history again.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import Poisson
from bench.load.plan.conversations import Conversations
from bench.load.plan.workload import Fixed, LogNormal, Uniform
from bench.records import Expectation

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "24 conversations at once of 2 to 8 turns, which send their history again after a "
        "system prompt of 256 tokens; 48 tokens a message, log-normal answers; Poisson "
        "arrivals at 45 % of capacity."
    ),
    arrival=Poisson(load=0.45),
    workload=Conversations(
        turns=Uniform(2, 8),
        user=Fixed(48),
        answer=LogNormal(median=16, sigma=0.8, low=4, high=96),
        system_tokens=256,
        most_tokens=1800,
        parallel=24,
    ),
    primary="scheduled_ttft_p90_s",
    expect=Expectation.NOT_WORSE,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, first_model: str) -> None:
    require_slo(measure(SCENARIO, first_model))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, first_model: str) -> None:
    require_gates(measure(SCENARIO, first_model))
