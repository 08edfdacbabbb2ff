"""One trial: its load, the conditions under which it is measured, and its record."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from bench.analysis.blocks import ROLES
from bench.config.profiles import Profile
from bench.config.topology import Arm
from bench.drivers import Driver
from bench.environments.base import Environment
from bench.experiment.budget import Budget
from bench.experiment.capacity import Capacity, EngineCalibration
from bench.experiment.scenario import Question
from bench.experiment.trial_order import PlannedTrial, RoleOrder, role_order
from bench.load.plan.routes import bypassing, routes
from bench.load.run.drive import DriveResult, Ending, Load
from bench.processes.program import Site
from bench.progress import Progress
from bench.records import Accuracy, MemorySeries, Replica, Role, Sample, ServerSeries, Trial
from bench.store import TrialStore
from bench.telemetry.cpu import CpuShares, CpuWatch
from bench.telemetry.scraping import scraping

# Time between trials, for engines and balancers to finish work that the last answers left.
SETTLE_S = 0.2


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all trials of a run have in common.

    `arms` are those that run, by role: all for a comparison, else the control alone.
    `accuracy` is that of the built-in client at the start of the run. `levels` has each arm's
    level of each factor in a factorial run.
    """

    environment: Environment
    site: Site
    calibration: EngineCalibration
    driver: Driver
    store: TrialStore
    progress: Progress
    run_id: str
    seed: int
    arms: Mapping[Role, Arm]
    profile: Profile
    provenance: Mapping[str, Any]
    accuracy: Accuracy
    levels: Mapping[Role, Mapping[str, str]] = field(default_factory=dict)

    @property
    def compares(self) -> bool:
        """Whether several arms run."""
        return len(self.arms) > 1

    @property
    def budget(self) -> Budget:
        """What the run may send."""
        return self.calibration.budget

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of blocks after which a verdict is sought; a control alone has one."""
        return self.profile.looks if self.compares else self.profile.looks[:1]

    def role_order(self, question: Question) -> RoleOrder:
        """The order of roles in each block."""
        alternates = self.environment.alternates
        roles = question.roles or tuple(self.arms)
        return role_order(roles, self.seed, str(question), alternates=alternates)


def run_trial(
    context: RunContext, question: Question, planned: PlannedTrial, capacity: Capacity
) -> Trial:
    """Run one trial and store it; upon Ctrl-C store what there is and raise KeyboardInterrupt."""
    prepared = _prepare(context, question, planned, capacity)
    time.sleep(SETTLE_S)
    result, server, memory = prepared.measure()
    for line in result.lost:
        context.progress.note(line)
    trial = replace(prepared.record(result), server=server, memory=memory)
    context.store.save(trial)
    context.budget.count(trial.samples + trial.bypassed)
    if result.ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    return trial


def _prepare(
    context: RunContext, question: Question, planned: PlannedTrial, capacity: Capacity
) -> _PreparedTrial:
    """Make the requests of a trial and have the arm ready for them."""
    arm, scenario = context.arms[planned.role], question.scenario
    seed = planned.seed(context.seed, str(question))
    schedule = question.schedule(planned, seed, capacity, context.profile.trial_s)
    salt = f"{question} {planned.block} {planned.position}"
    prompts = context.calibration.prompts(schedule, salt)
    # An arm that was not up has other replicas when it comes up: first routes, then replicas.
    arm_routes = context.environment.arm_routes(arm, scenario.balancers, question.models)
    replicas = tuple(
        replica for replica in context.environment.replicas(arm) if replica.model in question.models
    )
    affected = affected_replicas(replicas, planned.turn)
    bypassed = bypassing(schedule, scenario.bypass)
    urls = routes(schedule, arm_routes, bypassed, affected)
    api = context.environment.api(arm)
    load = Load(schedule, prompts, urls, arm.connections, api)
    capacity_rps = None if question.fixed_load else capacity.rps
    return _PreparedTrial(
        context, question, planned, seed, capacity_rps, load, replicas, affected, bypassed
    )


@dataclass(frozen=True, slots=True)
class _PreparedTrial:
    """A trial with everything that it sends, and where to.

    `capacity_rps` is the capacity that its load is a share of, None where the load is given.
    `replicas` are all that serve it. `affected` has, by model, the replica that the scenario
    slows, and to which requests go that bypass the arm; `bypassing` are the indexes of these.
    """

    context: RunContext
    question: Question
    planned: PlannedTrial
    seed: int
    capacity_rps: float | None
    load: Load
    replicas: tuple[Replica, ...]
    affected: Mapping[str, Replica]
    bypassing: frozenset[int]

    def measure(self) -> tuple[DriveResult, tuple[ServerSeries, ...], tuple[MemorySeries, ...]]:
        """Send the load under the conditions of the arm and of the scenario.

        Returns what the driver measured, with the CPU time that others took, what the replicas
        reported, and the memory of their GPUs.
        """
        context, environment = self.context, self.context.environment
        arm = context.arms[self.planned.role]
        scenario_share = self.question.scenario.slowed
        with ExitStack() as conditions:
            if arm.slowed is not None:
                conditions.enter_context(environment.slowed(self.replicas, arm.slowed))
            if scenario_share is not None:
                affected = tuple(self.affected.values())
                conditions.enter_context(environment.slowed(affected, scenario_share))
            watched = conditions.enter_context(environment.memory(arm))
            api = self.load.api
            scraper = conditions.enter_context(
                scraping(self.replicas, context.site, headers=api.headers, tls=api.tls)
            )
            watch = CpuWatch(environment.processes(), os.sched_getaffinity(0))
            result = context.driver.run(self.load, drain_timeout_s=context.profile.drain_s)
            # Other work on this machine matters only where it sends the load.
            cpu = watch.stop() if context.site.one_clock else CpuShares(None, None)
        # Readings can be related to the load only where its start is known on their clock.
        server: tuple[ServerSeries, ...] = ()
        memory: tuple[MemorySeries, ...] = ()
        if result.started_s is not None:
            server = scraper.since(result.started_s)
            if scraper.ahead_s is not None:
                memory = watched.since(result.started_s - scraper.ahead_s)
        instrument = replace(
            result.instrument,
            foreign_cpu_share=cpu.foreign,
            stolen_cpu_share=cpu.stolen,
            accuracy=context.accuracy,
        )
        return replace(result, instrument=instrument), server, memory

    def record(self, result: DriveResult) -> Trial:
        """The trial, without what was read of servers and their GPUs."""
        context, question, planned = self.context, self.question, self.planned
        schedule = self.load.schedule
        samples, bypassed = split_samples(
            result.samples, self.replicas, self.bypassing, self.affected
        )
        slowed = self.affected.values() if question.scenario.slowed else ()
        order = context.role_order(question)(planned.block)
        follows = not context.environment.alternates and {*order} <= {*ROLES}
        return Trial(
            run_id=context.run_id,
            arm=context.arms[planned.role].name,
            role=planned.role,
            environment=context.environment.name,
            scenario=question.facts,
            models=question.models,
            block=planned.block,
            position=planned.position,
            seed=self.seed,
            schedule_sha256=schedule.sha256,
            offered_rps=schedule.offered_rps,
            concurrency=schedule.concurrency,
            duration_s=schedule.duration_s,
            elapsed_s=result.elapsed_s,
            replicas=self.replicas,
            samples=samples,
            bypassed=bypassed,
            instrument=result.instrument,
            dead_replicas=context.environment.dead_replicas(),
            cut_short=result.cut_short,
            due=() if follows else order,
            round=question.round,
            capacity_rps=self.capacity_rps,
            driver=result.driver,
            connections=self.load.connections,
            exact_prompts=context.calibration.makes_exact(question.models),
            exact_answers=self.load.api.exact_answers,
            levels=context.levels.get(planned.role, {}),
            engines=context.environment.engines(context.arms[planned.role]),
            provenance={
                **context.provenance,
                **context.environment.arm_facts(context.arms[planned.role]),
                "slowed": [replica.name for replica in slowed],
            },
        )


def affected_replicas(replicas: Sequence[Replica], turn: int) -> dict[str, Replica]:
    """The replica of each model that a scenario's condition affects; they take turns."""
    by_model: dict[str, list[Replica]] = {}
    for replica in replicas:
        by_model.setdefault(replica.model, []).append(replica)
    return {model: each[turn % len(each)] for model, each in by_model.items()}


def _address(url: str) -> str:
    """The name by which balancers know a replica: `host:port`, and its base path."""
    parts = urlsplit(url)
    port = "" if parts.port else ":443" if parts.scheme == "https" else ":80"
    return f"{parts.netloc}{port}{parts.path.rstrip('/')}"


def split_samples(
    samples: Sequence[Sample],
    replicas: Sequence[Replica],
    bypassing: Collection[int],
    affected: Mapping[str, Replica],
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """The samples of the arm, and those with an index in `bypassing`, which bypassed it.

    Both with the name of the replica that served each: balancers report the address of one of
    `replicas`, and what bypassed the arm went to the one of `affected` for its model.
    """
    names = {_address(one.balancer_url or one.url): one.name for one in replicas}
    served, bypassed = list[Sample](), list[Sample]()
    for sample in samples:
        if sample.index in bypassing:
            bypassed.append(replace(sample, replica=affected[sample.model].name))
        else:
            name = names.get(sample.replica or "", sample.replica)
            served.append(replace(sample, replica=name))
    return tuple(served), tuple(bypassed)
