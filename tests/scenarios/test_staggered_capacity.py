"""The load is searched for: how high staggered peaks may be within the SLO.

The sweep of staggered-peaks across the load at which each arm saturates. Where memory is shared,
a peak may be higher before its requests wait.
"""

from __future__ import annotations

import pytest

from bench.analysis.gates import require_gates, require_slo
from bench.experiment.scenario import Scenario, scenario_name
from bench.experiment.session import Measure
from bench.experiment.trial_order import Grid
from bench.load.plan.arrivals import Peaks
from bench.records import Expectation

from .common import LONG, LONG_WORDS, PEAKS_LOAD, PEAKS_LOW

SCENARIO = Scenario(
    name=scenario_name(__name__),
    description=(
        "Peaks of the models in turn, a tenth of that else; the load is searched for at which "
        f"attainment falls to the target; {LONG_WORDS}."
    ),
    arrival=Peaks(load=PEAKS_LOAD, low=PEAKS_LOW),
    workload=LONG,
    primary="carried_rps",
    expect=Expectation.NOT_WORSE,
    metrics=("carried_rps",),
    search=Grid(step=1.1),
)


@pytest.mark.baseline
def test_load_of_control_is_found(measure: Measure, models: tuple[str, ...]) -> None:
    require_slo(measure(SCENARIO, *models))


@pytest.mark.managed
def test_treatment_carries_no_less_than_control(measure: Measure, models: tuple[str, ...]) -> None:
    require_gates(measure(SCENARIO, *models))
