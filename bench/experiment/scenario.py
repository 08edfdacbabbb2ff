"""A scenario: what is sent and when, under which conditions, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench.experiment.capacity import Capacity
from bench.experiment.trial_order import Grid, PlannedTrial
from bench.load.plan.arrivals import ClosedLoop, OfModels, OpenLoop
from bench.load.plan.schedule import plan_closed_loop, plan_open_loop, plan_traffic
from bench.load.plan.tenants import Mixture
from bench.load.plan.traces.replay import Replay
from bench.load.plan.workload import Asks, Scaled
from bench.records import Expectation, ScenarioFacts, Schedule, Slo

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
    """A load pattern, and what is expected of the treatment under it.

    `primary` is the metric whose verdict counts, `expect` the verdict that the treatment must
    reach. The offered load of `arrival` is relative to the capacity that is measured for
    `workload`, with all replicas at full speed. With `search`, the load is searched for: `arrival`
    is an open loop then, and its load is where the search begins.

    The rest are conditions, the same for both arms. `balancers` of an arm run side by side and
    get its requests in turn; they do not know of each other. `bypass` is the share of requests
    that bypass the arm and go straight to one replica; they are in none of the arm's metrics.
    `slowed` is the share of a core's time that one replica gets. With `overload` more is sent than
    can be served, and an arm may reject requests: they fail. The replica of each model that
    a condition affects changes with each half of a block.
    """

    name: str
    description: str
    arrival: OpenLoop | OfModels | ClosedLoop | Replay | Mixture
    workload: Asks
    primary: str
    expect: Expectation
    metrics: tuple[str, ...] = STANDARD_METRICS
    balancers: int = 1
    bypass: float = 0.0
    slowed: float | None = None
    overload: bool = False
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
        """The names of the tenants; empty where there are none."""
        return self.arrival.names if isinstance(self.arrival, Mixture) else ()

    def fitted(self, limit_tokens: int, mean_tokens: int | None) -> Scenario:
        """The scenario with lengths that the engines can serve; see `Scaled.fitted`."""
        if not isinstance(self.workload, Scaled):
            return self
        workload = self.workload.fitted(limit_tokens, mean_tokens)
        if workload.factor == 1.0:
            return replace(self, workload=workload)
        said = f"{self.description} Lengths x {workload.factor:.2g}, as these engines serve them."
        return replace(self, workload=workload, description=said)

    def load_of(self, trial: PlannedTrial) -> float:
        """The load that the trial offers, as a share of capacity; 1 in a closed loop."""
        if self.search is not None and trial.level is not None:
            return self.search.load(trial.level, trial.block)
        return 1.0 if isinstance(self.arrival, ClosedLoop) else self.arrival.load

    def facts(self, slos: Mapping[str, Slo]) -> ScenarioFacts:
        """The part that judging needs; `slos` has the objectives by `slo_key`."""
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
            overload=self.overload,
        )


@dataclass(frozen=True, slots=True)
class Question:
    """A scenario to measure for some models. In `round` 2 it gets other schedules.

    `rate_rps` and `concurrency` are a load that does not relate to capacity: the rate of all
    models together in an open loop, the requests in flight in a closed one. Unless it
    `measures_capacity`, a load relates to the pace with so many requests in flight.
    """

    scenario: Scenario
    facts: ScenarioFacts
    models: tuple[str, ...]
    round: int = 1
    rate_rps: float | None = None
    concurrency: int | None = None
    measures_capacity: bool = True

    def __str__(self) -> str:
        again = " again" if self.round > 1 else ""
        return f"{self.scenario.name} {'+'.join(self.models)}{again}"

    @property
    def fixed_load(self) -> bool:
        """Whether the load is given, and no share of capacity."""
        closed = isinstance(self.scenario.arrival, ClosedLoop)
        return (self.concurrency if closed else self.rate_rps) is not None

    def offered_rps(self, load: float, capacity: Capacity) -> float:
        """Requests per second of all models, where a share `load` of capacity is offered."""
        return load * capacity.rps if self.rate_rps is None else self.rate_rps

    def with_load(self, capacity: Capacity) -> Question:
        """The question; its description has a load that was given, and the pace of a trace."""
        arrival, said = self.scenario.arrival, [self.facts.description]
        if self.fixed_load:
            closed = isinstance(arrival, ClosedLoop)
            load = f"{self.concurrency} in flight" if closed else f"{self.rate_rps:g} requests/s"
            said.append(f"Load as given, in place of that: {load}.")
        elif not self.measures_capacity:
            pace = f"{capacity.rps:.3g} requests/s, the pace with {self.concurrency} in flight"
            said.append(f"In place of capacity: {pace}.")
        if isinstance(arrival, Replay):
            rate_rps = self.offered_rps(arrival.load, capacity) / len(self.models)
            said.append(f"Replayed {1 / arrival.time_factor(rate_rps):.3g} times as fast.")
        return replace(self, facts=replace(self.facts, description=" ".join(said)))

    def schedule(
        self, trial: PlannedTrial, seed: int, capacity: Capacity, duration_s: float
    ) -> Schedule:
        """The requests of a trial, at its share of `capacity` unless its load is given."""
        arrival, workload = self.scenario.arrival, self.scenario.workload
        if isinstance(arrival, ClosedLoop):
            concurrency = self.concurrency or arrival.concurrency(capacity.max_num_seqs)
            return plan_closed_loop(
                seed=seed,
                models=self.models,
                workload=workload,
                concurrency=concurrency,
                duration_s=duration_s,
                count=capacity.requests_for(duration_s, concurrency),
            )
        rps = self.offered_rps(self.scenario.load_of(trial), capacity)
        rates_rps = dict.fromkeys(self.models, rps / len(self.models))
        if isinstance(arrival, Replay | Mixture):
            return plan_traffic(
                seed=seed, rates_rps=rates_rps, traffic=arrival, duration_s=duration_s
            )
        return plan_open_loop(
            seed=seed,
            rates_rps=rates_rps,
            workload=workload,
            arrival=arrival,
            duration_s=duration_s,
        )


def scenario_name(module: str) -> str:
    """The name of a scenario by its test module: `heavy-tail` in `test_heavy_tail`."""
    return module.rpartition(".")[2].removeprefix("test_").replace("_", "-")
