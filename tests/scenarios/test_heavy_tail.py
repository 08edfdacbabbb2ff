"""Heavy tail near saturation: a few answers are twenty times as long as the rest.

Round robin gives a replica its turn however many long answers it still generates, so
short requests queue behind them. This is where routing by load has to pay off.
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
    name="heavy-tail",
    description=(
        "Near saturation: Poisson arrivals at 85 % of capacity; "
        "15 % of answers have 160 tokens, the rest 8."
    ),
    arrival=Poisson(load=0.85),
    workload=Workload(prompt=Fixed(64), output=Bimodal(short=8, long=160, long_share=0.15)),
    primary="scheduled_ttft_p95_s",
    expect=Expectation.BETTER,
)

pytestmark = pytest.mark.heavy_tail


@pytest.mark.baseline
def test_baseline_meets_slo(measure: Measure, model: str) -> None:
    require_slo(measure(SCENARIO, model))


@pytest.mark.managed
def test_managed_is_better_than_baseline(measure: Measure, model: str) -> None:
    require_gates(measure(SCENARIO, model))
