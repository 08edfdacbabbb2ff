"""One busy model, and others that are mostly idle: 40 % of capacity, by Zipf's law.

Each model stands for a tenant with a model of its own. With three models the first gets 73 % of
the requests, which is 88 % of its share of capacity; the last gets 8 %. With a static split the
memory of the idle ones is of no use to the busy one.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import LongTail
from bench.records import Expectation

from .common import LONG, LONG_WORDS, MEMORY_METRICS

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "Poisson arrivals at 40 % of the capacity that the models share, whose loads follow Zipf's "
        f"law with exponent 2: one is busy, the others are mostly idle; {LONG_WORDS}."
    ),
    arrival=LongTail(load=0.4, exponent=2.0),
    workload=LONG,
    primary="scheduled_ttft_p90_s",
    expect=Expectation.NOT_WORSE,
    metrics=MEMORY_METRICS,
)


@pytest.mark.baseline
def test_control_meets_slo(measure: Measure, models: tuple[str, ...]) -> None:
    require_slo(measure(SCENARIO, *models))


@pytest.mark.managed
def test_treatment_is_not_worse_than_control(measure: Measure, models: tuple[str, ...]) -> None:
    require_gates(measure(SCENARIO, *models))
