"""One comparison, from idle replicas to judged trials.

warm every replica -> measure capacity once for both arms -> blocks of trials, the
arms interleaved on the same schedule -> judge at the agreed looks, stop when decided.
A block that something disturbed is set aside, and another one measured in its place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bench.analysis.bounds import DEFAULT_BOUNDS
from bench.analysis.carried import is_carried
from bench.analysis.compare import order
from bench.analysis.judge import judge
from bench.analysis.trial_checks import disturbances
from bench.config.options import Profile
from bench.config.topology import Arm
from bench.cpu import CpuShares, CpuWatch
from bench.drivers import Driver
from bench.environments.base import Environment
from bench.errors import UserError
from bench.experiment.capacity import Calibration, Capacity
from bench.experiment.scenario import Scenario
from bench.experiment.trial import apart, named, singled_out
from bench.experiment.trial_order import (
    BOTH,
    Course,
    MirroredCourse,
    Order,
    SearchCourse,
    Slot,
    drawn_order,
)
from bench.load.arrivals import ClosedLoop
from bench.load.drive import Load
from bench.load.outcome import Ending
from bench.load.routes import bypassing, routes
from bench.load.schedule import plan_closed_loop, plan_open_loop, plan_traffic
from bench.load.tenants import Mixture
from bench.load.traces import Replay
from bench.progress import Progress, Step
from bench.quiet import await_quiet
from bench.records import Accuracy, Replica, Role, ScenarioFacts, Schedule, Trial, Verdict
from bench.scraping import scraping
from bench.sites.base import Site
from bench.store import TrialStore

# In a search for the load, a trial lasts so many times as long as a request may take.
TRIAL_PER_OBJECTIVE = 10.0
# So often the machine may stay busy for as long as that is waited for.
PATIENCE = 2
# Between trials: what the last answers left to do in engines and balancers gets done.
SETTLE_S = 0.2


def spare_blocks(looks: Sequence[int]) -> int:
    """Blocks that may be set aside in a comparison which ends at the last look at most."""
    return max(looks[0], looks[-1] // 2)


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for a whole run, fixed before the first request.

    `accuracy` is the client's own, as it was found at the start.
    """

    run_id: str
    seed: int
    arms: Mapping[Role, Arm]
    profile: Profile
    provenance: Mapping[str, Any]
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class Question:
    """One scenario for some models, with everything that judging it needs.

    In `round` 2 it is asked once more, with other schedules.
    """

    scenario: Scenario
    facts: ScenarioFacts
    models: tuple[str, ...]
    round: int = 1

    @property
    def searches(self) -> bool:
        return self.scenario.search is not None

    def __str__(self) -> str:
        again = " again" if self.round > 1 else ""
        return f"{self.scenario.name} {'+'.join(self.models)}{again}"


@dataclass(slots=True)
class Experiment:
    """Puts questions to an environment whose replicas are up."""

    environment: Environment
    site: Site
    calibration: Calibration
    driver: Driver
    store: TrialStore
    progress: Progress
    plan: Plan

    def run(self, question: Question, roles: tuple[Role, ...]) -> tuple[Trial, ...]:
        """Measure until a look decides, or to the profile's last block.

        `roles` is BOTH for a comparison, CONTROL for the objectives of one arm. Every
        trial is on disk before the next begins. Raises UserError when a replica is
        found dead before the first trial; later, the trial that lost it is the last.
        """
        self._require_replicas()
        self._require_long_trials(question)
        # Where only one arm is up at a time, it is the control, whose capacity is measured.
        for role in ("control",) if self.environment.alternates else roles:
            self._arm_routes(question, role)
        capacity = self.calibration.capacity(question.scenario.workload, question.models)
        question = replace(question, facts=_with_pace(question, capacity))
        looks = self.plan.profile.looks if roles == BOTH else self.plan.profile.looks[:1]
        course = _course(question.scenario, roles, self._order(question))
        with self.progress.step(str(question)) as step:
            trials = self._blocks(question, course, looks, capacity, step)
            return self._checked(question, trials, capacity, step)

    def _blocks(
        self,
        question: Question,
        course: Course,
        looks: Sequence[int],
        capacity: Capacity,
        step: Step,
    ) -> list[Trial]:
        """Measure block after block until a look decides, or there are enough."""
        trials: list[Trial] = []
        good, given_up, began_s = 0, 0, time.monotonic()
        for index in range(looks[-1] + spare_blocks(looks)):
            left = time_left(time.monotonic() - began_s, index, index + looks[-1] - good)
            if not isinstance(question.scenario.arrival, ClosedLoop):
                # Its load is a share of what the engines can do now.
                step.update(f"block {good + 1}/{looks[-1]}, how fast the engines are{left}")
                capacity = self._probe(question, capacity)
            block: list[Trial] = []
            for slot in course.block(index):
                arm = self.plan.arms[slot.role].name
                load = f" at {question.scenario.load_at(slot):.0%}" if question.searches else ""
                step.update(f"block {good + 1}/{looks[-1]}, trial of {arm}{load}{left}")
                block.append(self._trial(question, slot, capacity))
                if block[-1].dead_replicas:
                    return [*trials, *block]
                course.note(slot, carried=is_carried(block[-1]))
            trials += block
            if why := disturbances(block, DEFAULT_BOUNDS):
                self.progress.note(f"{question}: block {index} is set aside: {'; '.join(why)}")
                given_up += not self._is_quiet(step)
                if given_up == PATIENCE:
                    break
                continue
            good += 1
            if course.stuck or good == looks[-1] or (good in looks and _decided(trials)):
                break
        return trials

    def _is_quiet(self, step: Step) -> bool:
        """Whether others let go of the machine within the time that is waited for it."""
        if not self.site.one_clock:  # what this machine does matters only where it sends the load
            return True
        cores = os.sched_getaffinity(0)
        return await_quiet(self.environment.processes(), cores, DEFAULT_BOUNDS, step)

    def _checked(
        self, question: Question, trials: list[Trial], capacity: Capacity, step: Step
    ) -> tuple[Trial, ...]:
        """The trials, the last one with what the engines can do after it."""
        step.update("checking whether the engines are as fast as before")
        after = self._probe(question, capacity)
        if after is not capacity:
            trials[-1] = replace(trials[-1], capacity_after_rps=after.rps)
            self.store.save(trials[-1])
        return tuple(trials)

    def _probe(self, question: Question, about: Capacity) -> Capacity:
        """What the replicas can do now, or `about` where that cannot be told."""
        # Where arms are up by turns, the replicas that were calibrated may be down now.
        if self.environment.alternates or self.environment.dead_replicas():
            return about
        try:
            return self.calibration.probe(question.scenario.workload, question.models, about)
        except UserError as error:  # what was measured until now is worth more
            self.progress.note(f"{question}: the engines' speed is not known: {error}")
            return about

    def _require_long_trials(self, question: Question) -> None:
        """A queue that grows without end has to be seen to grow within a trial."""
        if question.scenario.search is None:
            return
        for model, slo in question.facts.slos.items():
            limit_s = max(slo.ttft_s or 0.0, slo.e2e_s or 0.0)
            if limit_s * TRIAL_PER_OBJECTIVE > self.plan.profile.trial_s:
                raise UserError(
                    f"{question}: a trial of {self.plan.profile.trial_s:g} s is too short to find "
                    f"what is carried within {limit_s:g} s ({model}); give a longer --profile or "
                    f"an objective of at most {self.plan.profile.trial_s / TRIAL_PER_OBJECTIVE:g} s"
                )

    def _order(self, question: Question) -> Order:
        """The order of arms in a block: drawn where only one of them is up at a time."""
        if not self.environment.alternates:
            return order
        return partial(drawn_order, self.plan.seed, str(question))

    def _require_replicas(self) -> None:
        if dead := self.environment.dead_replicas():
            raise UserError(f"dead replica: {dead[0]}")

    def _trial(self, question: Question, slot: Slot, capacity: Capacity) -> Trial:
        """Run one trial and store it. Ctrl-C stores what there is, then goes on up."""
        trial, ending = self._measured(question, slot, capacity)
        self.store.save(trial)
        if ending is Ending.INTERRUPTED:
            raise KeyboardInterrupt
        return trial

    def _measured(self, question: Question, slot: Slot, capacity: Capacity) -> tuple[Trial, Ending]:
        """One trial, and how its load ended."""
        seed = slot.seed(self.plan.seed, str(question))
        schedule = self._schedule(question, slot, seed, capacity)
        salt = f"{question} {slot.block} {slot.position}"
        prompts = self.calibration.prompts(schedule, salt)
        arm_routes = self._arm_routes(question, slot.role)
        serving = self._serving(question, slot.role)
        odd = singled_out(serving, slot.turn)
        past = bypassing(schedule, question.scenario.bypass)
        urls = routes(schedule, arm_routes, past, odd)
        connections = self.plan.arms[slot.role].connections
        load = Load(schedule, prompts, urls, connections)
        time.sleep(SETTLE_S)
        with ExitStack() as conditions:
            for replicas, share in self._slowed(question, slot.role, serving, odd.values()):
                conditions.enter_context(self.environment.slowed(replicas, share))
            scraper = conditions.enter_context(scraping(serving, self.site))
            watch = CpuWatch(self.environment.processes(), os.sched_getaffinity(0))
            driven = self.driver.run(load, drain_timeout_s=self.plan.profile.drain_s)
            # What else this machine does matters only where it sends the load.
            cpu = watch.stop() if self.site.one_clock else CpuShares(None, None)
        result = driven.result
        for line in result.lost:
            self.progress.note(line)
        own, bypassed = apart(named(result.samples, serving), past, odd)
        trial = Trial(
            run_id=self.plan.run_id,
            arm=self.plan.arms[slot.role].name,
            role=slot.role,
            environment=self.environment.name,
            scenario=question.facts,
            models=question.models,
            block=slot.block,
            position=slot.position,
            seed=seed,
            schedule_sha256=schedule.sha256,
            offered_rps=schedule.offered_rps,
            concurrency=schedule.concurrency,
            duration_s=schedule.duration_s,
            elapsed_s=result.elapsed_s,
            replicas=serving,
            samples=own,
            bypassed=bypassed,
            # Where the start is not known on the clock of place 0, nothing can be put beside it.
            server=() if result.started_s is None else scraper.since(result.started_s),
            instrument=replace(
                result.instrument,
                foreign_cpu_share=cpu.foreign,
                stolen_cpu_share=cpu.stolen,
                accuracy=self.plan.accuracy,
            ),
            dead_replicas=self.environment.dead_replicas(),
            cut_short=result.cut_short,
            due=self._order(question)(slot.block) if self.environment.alternates else (),
            round=question.round,
            capacity_rps=capacity.rps,
            driver=driven.facts,
            connections=connections,
            provenance={
                **self.plan.provenance,
                "slowed": [one.name for one in odd.values()] if question.scenario.slowed else [],
            },
        )
        return trial, result.ending

    def _arm_routes(self, question: Question, role: Role) -> Mapping[str, tuple[str, ...]]:
        return self.environment.arm_routes(
            self.plan.arms[role], question.scenario.balancers, question.models
        )

    def _serving(self, question: Question, role: Role) -> tuple[Replica, ...]:
        """The arm's replicas of the question's models, as they are now."""
        replicas = self.environment.replicas(self.plan.arms[role])
        return tuple(replica for replica in replicas if replica.model in question.models)

    def _slowed(
        self,
        question: Question,
        role: Role,
        serving: tuple[Replica, ...],
        odd: Iterable[Replica],
    ) -> Iterator[tuple[tuple[Replica, ...], float]]:
        """Which replicas get only which share of a core: the arm's, or the scenario's odd one."""
        if (share := self.plan.arms[role].slowed) is not None:
            yield serving, share
        if (share := question.scenario.slowed) is not None:
            yield tuple(odd), share

    def _schedule(self, question: Question, slot: Slot, seed: int, capacity: Capacity) -> Schedule:
        arrival, workload = question.scenario.arrival, question.scenario.workload
        duration_s = self.plan.profile.trial_s
        if isinstance(arrival, ClosedLoop):
            in_flight = arrival.concurrency(capacity.slots)
            return plan_closed_loop(
                seed=seed,
                models=question.models,
                workload=workload,
                concurrency=in_flight,
                duration_s=duration_s,
                count=capacity.requests_for(duration_s, in_flight),
            )
        rps = question.scenario.load_at(slot) * capacity.rps
        rates_rps = dict.fromkeys(question.models, rps / len(question.models))
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


def _with_pace(question: Question, capacity: Capacity) -> ScenarioFacts:
    """The facts, with what becomes known only now: how fast a trace is replayed."""
    arrival, facts = question.scenario.arrival, question.facts
    if not isinstance(arrival, Replay):
        return facts
    rate_rps = arrival.load * capacity.rps / len(question.models)
    pace = f"Replayed {1 / arrival.time_factor(rate_rps):.3g} times as fast."
    return replace(facts, description=f"{facts.description} {pace}")


def _course(scenario: Scenario, roles: tuple[Role, ...], order: Order) -> Course:
    if scenario.search is None or isinstance(scenario.arrival, ClosedLoop):
        return MirroredCourse(roles, order)
    return SearchCourse(roles, scenario.search, scenario.arrival.load, order)


def _decided(trials: Sequence[Trial]) -> bool:
    primary = judge(trials).primary
    return primary is not None and primary.verdict is not Verdict.INCONCLUSIVE


def time_left(elapsed_s: float, done: int, at_most: int) -> str:
    """What remains at the pace so far; empty before the first trial."""
    if not done:
        return ""
    left_s = elapsed_s / done * (at_most - done)
    return (
        f", at most {left_s / 60:.0f} min left" if left_s > 90 else f", at most {left_s:.0f} s left"
    )
