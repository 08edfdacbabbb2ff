"""The peaks of staggered-peaks, all at once: nobody has anything to lend.

A negative control. All engines need their memory at the same time, so sharing it can gain
nothing. A gain here would be one of something else.
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
        "Peaks of all models at once, 1.5 times capacity together, a tenth of that else; 60 % of "
        f"capacity on average; {LONG_WORDS}."
    ),
    arrival=Peaks(load=PEAKS_LOAD, low=PEAKS_LOW, together=True),
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
