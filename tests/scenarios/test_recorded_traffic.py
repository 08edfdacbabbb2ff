"""Recorded traffic (`--traffic FILE`) in its own shape, at 50 % of capacity on average.

When requests come and how long they are is what somebody's users did, bursts included;
only pace and length are scaled to the engine. Each trial replays another part.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.traces.replay import Fit, Replay, ReplayedLengths
from bench.records import Expectation

LOAD = 0.5


@pytest.fixture
def scenario(traffic: Fit) -> Scenario:
    return replayed(traffic)


def replayed(traffic: Fit) -> Scenario:
    return Scenario(
        name=scenario_name(__name__),
        description=f"Recorded traffic at {LOAD:.0%} of capacity on average: {traffic}.",
        arrival=Replay(traffic, load=LOAD),
        workload=ReplayedLengths(traffic),
        primary="scheduled_ttft_p90_s",
        expect=Expectation.NOT_WORSE,
    )


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, scenario: Scenario, first_model: str) -> None:
    require_slo(measure(scenario, first_model))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(
    measure: Measure, scenario: Scenario, first_model: str
) -> None:
    require_gates(measure(scenario, first_model))
