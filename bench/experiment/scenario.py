"""A scenario: what is sent, when, what is judged, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.experiment.trial_order import Grid, Slot
from bench.load.arrivals import ClosedLoop, OpenLoop
from bench.load.tenants import Mixture
from bench.load.traces import Replay
from bench.load.workload import Asks
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
    is measured for `workload` on the machine at hand, with all replicas at full speed.

    With `search`, the load is searched for: see `Grid`. `arrival` has to be an open
    loop then, and its load is where the search begins.

    The rest are conditions, the same for both arms. `balancers` of an arm stand side by
    side and get its requests in turn; they do not know of each other. `bypass` is the share
    of requests that go past the arm, straight to one replica; they load it and are in none
    of the arm's metrics. `slowed` is the share of a core's time that one replica gets. Which
    replica of each model that is changes from half block to half block.
    """

    name: str
    description: str
    arrival: OpenLoop | ClosedLoop | Replay | Mixture
    workload: Asks
    primary: str
    expect: Expectation
    metrics: tuple[str, ...] = STANDARD_METRICS
    balancers: int = 1
    bypass: float = 0.0
    slowed: float | None = None
    search: Grid | None = None

    def __post_init__(self) -> None:
        if self.balancers < 1:
            raise ValueError(f"balancers must be at least 1, got {self.balancers}")
        if not 0.0 <= self.bypass < 1.0:
            raise ValueError(f"bypass must be in [0, 1), got {self.bypass:g}")
        if self.slowed is not None and not 0.0 < self.slowed <= 1.0:
            raise ValueError(f"slowed must be in (0, 1], got {self.slowed:g}")
        if self.search is not None and isinstance(self.arrival, ClosedLoop):
            raise ValueError("a closed loop offers no load that could be searched for")

    @property
    def tenants(self) -> tuple[str, ...]:
        """Those that requests are sent for; empty where nobody is told apart."""
        return self.arrival.names if isinstance(self.arrival, Mixture) else ()

    def load_at(self, slot: Slot) -> float:
        """What the trial offers, as a share of capacity; a closed loop's is 1."""
        if self.search is not None and slot.level is not None:
            return self.search.load(slot.level, slot.block)
        return 1.0 if isinstance(self.arrival, ClosedLoop) else self.arrival.load

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
            search_step=self.search.step if self.search else None,
            tenants=self.tenants,
        )


def scenario_name(module: str) -> str:
    """The name of a scenario by its test module: `heavy-tail` in `test_heavy_tail`."""
    return module.rpartition(".")[2].removeprefix("test_").replace("_", "-")
