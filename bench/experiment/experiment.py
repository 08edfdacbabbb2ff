"""One comparison, from idle replicas to stored trials.

Warm every replica, measure capacity once for all arms, then run blocks of trials: the arms take
turns on the same schedules. At the planned looks a verdict is sought; the first one ends the
comparison. A disturbed block is set aside, and another one is measured in its place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.analysis.checks import DEFAULT_BOUNDS, disturbances
from bench.analysis.judge import is_decided
from bench.analysis.rates import is_carried
from bench.analysis.validity import failed_share
from bench.config.topology import Arm
from bench.environments.base import Environment
from bench.errors import UserError
from bench.experiment.budget import Amount, amount_of
from bench.experiment.capacity import Capacity
from bench.experiment.scenario import Question
from bench.experiment.trial import RunContext, run_trial
from bench.experiment.trial_order import PlannedTrial, SearchOrder, TrialOrder
from bench.load.plan.arrivals import ClosedLoop
from bench.progress import Step
from bench.records import Role, Trial
from bench.telemetry.cpu import await_quiet

# In a search for the load, a trial lasts at least so many times as long as a request may take.
TRIAL_PER_OBJECTIVE = 10.0
# After so many waits in vain for a quiet machine the comparison ends.
MOST_WAITS = 2
# An arm that failed more of its requests in a block is not measured further.
MOSTLY = 0.5
# Trials of an arm in a block where the load is searched for, about.
SEARCHED = 6


def spare_blocks(looks: Sequence[int]) -> int:
    """The number of blocks that may be set aside in a comparison with these looks."""
    return max(looks[0], looks[-1] // 2)


def start_arms(
    environment: Environment, arms: Mapping[Role, Arm], balancers: int, models: Sequence[str]
) -> None:
    """Bring up the balancers of each arm.

    Where only one arm is up at a time, that is the control, at which capacity is measured; a
    treatment comes up for its first trial.
    """
    for role, arm in arms.items():
        if role == "control" or not environment.alternates:
            environment.arm_routes(arm, balancers, models)


@dataclass(frozen=True, slots=True)
class Experiment:
    """Answers questions on an environment whose replicas are up."""

    context: RunContext

    def run(self, question: Question) -> tuple[Trial, ...]:
        """Measure until a look decides, at most to the profile's last look.

        The control alone is measured to the first look. Every trial is on disk before the next
        begins. Raises UserError when a replica is dead before the first trial; when one dies
        later, that trial is the last.
        """
        context = self.context
        if dead := context.environment.dead_replicas():
            raise UserError(f"dead replica: {dead[0]}")
        self._require_long_trials(question)
        start_arms(context.environment, context.arms, question.scenario.balancers, question.models)
        capacity = self._first_capacity(question)
        question = question.with_load(capacity)
        self._require_budget(question, capacity)
        with context.progress.step(str(question)) as step:
            trials = self._run_blocks(question, capacity, step)
            step.update("checking whether the engines are as fast as before")
            after = self._capacity_now(question, capacity)
            if after is not capacity:
                trials[-1] = replace(trials[-1], capacity_after_rps=after.rps)
                context.store.save(trials[-1])
            return tuple(trials)

    def _run_blocks(self, question: Question, capacity: Capacity, step: Step) -> list[Trial]:
        """Measure block after block until a look decides, or there are enough."""
        looks = self.context.looks
        order = self._trial_order(question)
        trials: list[Trial] = []
        good, busy, began_s = 0, 0, time.monotonic()
        for index in range(looks[-1] + spare_blocks(looks)):
            left = time_left(time.monotonic() - began_s, index, index + looks[-1] - good)
            update = _updates(step, f"block {index}, {good} of at most {looks[-1]} counted, ", left)
            if not self.context.budget.allows(self._block_amount(question, capacity)):
                self.context.progress.note(
                    f"{question}: ends here, for the next block might be beyond the limit; "
                    f"sent so far: {self.context.budget.sent}"
                )
                break
            if not isinstance(question.scenario.arrival, ClosedLoop):
                # Its load is a share of what the engines can do now.
                update("how fast the engines are")
                capacity = self._capacity_now(question, capacity)
            block = self._run_block(question, order, index, capacity, update)
            trials += block
            if block[-1].dead_replicas:
                break
            if question.scenario.search is None and (arm := _failing(block)) is not None:
                self.context.progress.note(f"{question}: ends here: most requests to {arm} fail")
                break
            if why := disturbances(block, DEFAULT_BOUNDS):
                note = f"{question}: block {index} is set aside: {'; '.join(why)}"
                self.context.progress.note(note)
                capacity = _grown(capacity, block)
                busy += not self._becomes_quiet(step)
                if busy == MOST_WAITS:
                    self.context.progress.note(f"{question}: ends here: other programs do not end")
                    break
                continue
            good += 1
            if order.exhausted or good == looks[-1] or (good in looks and is_decided(trials)):
                break
        return trials

    def _run_block(
        self,
        question: Question,
        order: TrialOrder,
        index: int,
        capacity: Capacity,
        update: Callable[[str], None],
    ) -> list[Trial]:
        """The trials of one block, up to the first one in which a replica died."""
        block: list[Trial] = []
        for planned in order.block(index):
            arm, scenario = self.context.arms[planned.role], question.scenario
            load = f" at {scenario.load_of(planned):.0%}" if scenario.search else ""
            update(f"trial of {arm.name}{load}")
            block.append(run_trial(self.context, question, planned, capacity))
            if block[-1].dead_replicas:
                break
            order.record(planned, carried=is_carried(block[-1]))
        return block

    def _first_capacity(self, question: Question) -> Capacity:
        """Capacity; where the load does not relate to it, an estimate of it from warming."""
        calibration, workload = self.context.calibration, question.scenario.workload
        if question.fixed_load or not question.measures_capacity:
            return calibration.warm(workload, question.models, question.concurrency)
        return calibration.capacity(workload, question.models)

    def _require_budget(self, question: Question, capacity: Capacity) -> None:
        """Say what the question may send. Raises UserError where that is not allowed."""
        looks = self.context.looks
        block = self._block_amount(question, capacity)
        most = block * (looks[-1] + spare_blocks(looks))
        if self.context.budget.is_limited:
            self.context.progress.note(f"{question}: up to {most}")
        self.context.budget.require(str(question), block * looks[0], most)

    def _block_amount(self, question: Question, capacity: Capacity) -> Amount:
        """What a block sends, at most; about, in a search."""
        roles = self.context.role_order(question)(0)
        trial = PlannedTrial(0, 0, roles[0])
        schedule = question.schedule(trial, 0, capacity, self.context.profile.trial_s)
        trials = len(set(roles)) * SEARCHED if question.scenario.search else len(roles)
        return amount_of(schedule) * trials

    def _trial_order(self, question: Question) -> TrialOrder:
        roles, scenario = self.context.role_order(question), question.scenario
        if scenario.search is None or isinstance(scenario.arrival, ClosedLoop):
            return TrialOrder(roles)
        return SearchOrder(roles, scenario.search, scenario.arrival.load)

    def _capacity_now(self, question: Question, earlier: Capacity) -> Capacity:
        """The present capacity, or `earlier` where that cannot be measured."""
        context = self.context
        # Where only one arm is up at a time, the replicas that were calibrated may be down now.
        if (
            question.fixed_load
            or not question.measures_capacity
            or context.environment.alternates
            or context.environment.dead_replicas()
        ):
            return earlier
        try:
            return context.calibration.probe(question.scenario.workload, question.models, earlier)
        except UserError as error:  # it must not cost the trials so far
            context.progress.note(f"{question}: the engines' speed is not known: {error}")
            return earlier

    def _becomes_quiet(self, step: Step) -> bool:
        """Wait for other programs; False if they keep the machine busy for too long."""
        context = self.context
        if not context.site.one_clock:  # this machine matters only where it sends the load
            return True
        cores = os.sched_getaffinity(0)
        return await_quiet(context.environment.processes(), cores, DEFAULT_BOUNDS, step)

    def _require_long_trials(self, question: Question) -> None:
        """Raise UserError where a trial is too short to show that a queue grows without end."""
        if question.scenario.search is None:
            return
        trial_s = self.context.profile.trial_s
        for model, slo in question.facts.slos.items():
            limit_s = max(slo.ttft_s or 0.0, slo.e2e_s or 0.0)
            if limit_s * TRIAL_PER_OBJECTIVE > trial_s:
                raise UserError(
                    f"{question}: a trial of {trial_s:g} s is too short to find "
                    f"what is carried within {limit_s:g} s ({model}); give a longer --profile or "
                    f"an objective of at most {trial_s / TRIAL_PER_OBJECTIVE:g} s"
                )


def _failing(block: Sequence[Trial]) -> str | None:
    """The arm that failed most of its requests in a block: more blocks would tell nothing else."""
    for arm in dict.fromkeys(trial.arm for trial in block):
        if (failed_share([trial for trial in block if trial.arm == arm]) or 0.0) > MOSTLY:
            return arm
    return None


def _grown(capacity: Capacity, block: Sequence[Trial]) -> Capacity:
    """At least the pace of a closed loop whose list of requests was too short."""
    paces_rps = [len(one.samples) / one.elapsed_s for one in block if one.cut_short]
    return replace(capacity, rps=max(capacity.rps, *paces_rps)) if paces_rps else capacity


def _updates(step: Step, before: str, after: str) -> Callable[[str], None]:
    """Updates of a step, each between two texts."""
    return lambda text: step.update(f"{before}{text}{after}")


def time_left(elapsed_s: float, done: int, at_most: int) -> str:
    """The time that the remaining blocks take, estimated; empty before the first block."""
    if not done:
        return ""
    left_s = elapsed_s / done * (at_most - done)
    return (
        f", at most {left_s / 60:.0f} min left" if left_s > 90 else f", at most {left_s:.0f} s left"
    )
