"""45 % of capacity; prompts begin with one of eight long prefixes.

A replica that has such a beginning in its cache saves most of the prompt's work. A cache
holds five of the eight: two replicas that share them out hold all, two that get every
kind hold the popular ones twice. Each trial has prefixes of its own and begins without.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import Poisson
from bench.load.plan.workload import Fixed, SharedPrefixes, Workload
from bench.records import Expectation

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "Eight prefixes of 768 tokens, popular by Zipf's law, each followed by 64 of the "
        "request's own; answers of 8 tokens; Poisson arrivals at 45 % of capacity."
    ),
    arrival=Poisson(load=0.45),
    workload=Workload(
        prompt=Fixed(64), output=Fixed(8), prefixes=SharedPrefixes(count=8, tokens=768)
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
