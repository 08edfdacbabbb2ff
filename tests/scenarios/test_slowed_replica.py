"""One replica gets half of its core's time, as a noisy neighbour or a quota makes it.

With two replicas a quarter of the capacity is gone. The load is four fifths of what is
left; an even share of it is more than the slowed replica can serve.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.load.arrivals import Poisson
from bench.load.workload import Bimodal, Fixed, Workload
from bench.records import Expectation
from bench.scenario import Scenario
from bench.session import Measure

SCENARIO = Scenario(
    name="slowed-replica",
    description=(
        "One replica may use half of a core; Poisson arrivals at 60 % of the capacity before, "
        "15 % of answers have 160 tokens, the rest 8."
    ),
    arrival=Poisson(load=0.6),
    workload=Workload(prompt=Fixed(64), output=Bimodal(short=8, long=160, long_share=0.15)),
    primary="scheduled_ttft_p95_s",
    expect=Expectation.NOT_WORSE,
    slowed=0.5,
)

pytestmark = pytest.mark.slowed_replica


@pytest.mark.baseline
def test_baseline_meets_slo(measure: Measure, first_model: str) -> None:
    require_slo(measure(SCENARIO, first_model))


@pytest.mark.managed
def test_managed_is_not_worse_than_baseline(measure: Measure, first_model: str) -> None:
    require_gates(measure(SCENARIO, first_model))
