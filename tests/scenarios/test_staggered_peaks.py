"""Peaks of the models one after another, each 1.5 times a model's share of capacity.

While one model has its peak the others are mostly idle. Engines that share a GPU's memory can
lend theirs; with a static split the peak has to wait although there is room. Engines on CPUs
share no KV cache: there it is about the balancer alone.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.load.plan.arrivals import Peaks
from bench.records import Expectation

from .common import LONG, LONG_WORDS, MEMORY_METRICS, PEAKS_LOAD, PEAKS_LOW

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "Peaks of the models in turn, with three each 1.5 times its share of capacity, a tenth of "
        f"that else; together 60 % of capacity at any time; {LONG_WORDS}."
    ),
    arrival=Peaks(load=PEAKS_LOAD, low=PEAKS_LOW),
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
