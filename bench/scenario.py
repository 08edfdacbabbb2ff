"""A scenario: what is sent, when, what is judged, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.load.arrivals import ClosedLoop, OpenLoop
from bench.load.workload import Workload
from bench.records import Expectation, ScenarioFacts, Slo

STANDARD_METRICS = (
    "scheduled_ttft_p50_s",
    "scheduled_ttft_p95_s",
    "tpot_p50_s",
    "scheduled_e2e_p95_s",
    "output_tps",
    "goodput_rps",
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load pattern with its question.

    `primary` is the metric that the verdict gates on, `expect` what the treatment
    must show there. The offered load of `arrival` is relative to the capacity that
    is measured for `workload` on the machine at hand.
    """

    name: str
    description: str
    arrival: OpenLoop | ClosedLoop
    workload: Workload
    primary: str
    expect: Expectation
    metrics: tuple[str, ...] = STANDARD_METRICS

    def facts(self, slos: Mapping[str, Slo]) -> ScenarioFacts:
        """What judging needs to know, the primary metric first; `slos` by model."""
        others = tuple(name for name in self.metrics if name != self.primary)
        return ScenarioFacts(
            name=self.name,
            primary=self.primary,
            metrics=(self.primary, *others),
            expect=self.expect,
            slos=slos,
            description=self.description,
        )
