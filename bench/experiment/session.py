"""What the tests of one pytest run share: the environment, the experiment, its results."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from bench.analysis.factorial import Factorial
from bench.analysis.gates import describe, wants_confirmation
from bench.analysis.judge import cases, factorial_of, judge
from bench.analysis.judgement import Case, Judgement
from bench.analysis.verdict import ALPHA, pooled_spread, smallest_factor, spread_of
from bench.config.config import Config
from bench.drivers import make_driver
from bench.environments.base import Environment
from bench.errors import UserError
from bench.experiment.budget import Budget
from bench.experiment.capacity import EngineCalibration
from bench.experiment.experiment import Experiment, start_arms
from bench.experiment.scenario import Question, Scenario
from bench.experiment.suitability import why_not
from bench.experiment.trial import RunContext
from bench.experiment.trial_order import CONTROL
from bench.load.accuracy.check import check_client
from bench.progress import Progress
from bench.records import Role, role_number, slo_key
from bench.store import NoiseStore, TrialStore


class Measure(Protocol):
    """Fixture `measure`: measure a scenario for some models and judge it."""

    def __call__(self, scenario: Scenario, *models: str) -> Judgement: ...


@dataclass(slots=True)
class Session:
    """Brings the environment up for the first scenario, and measures each scenario once.

    Where any test of the run `compares` the arms, tests of the control alone get the trials of
    the comparison, too. All treatments are measured together.
    """

    config: Config
    compares: bool
    progress: Progress
    provenance: Mapping[str, Any]
    make_environment: Callable[[], Environment]
    _cleanup: ExitStack = field(default_factory=ExitStack)
    _experiment: Experiment | None = None
    _failure: UserError | None = None
    _rounds: dict[str, tuple[Mapping[Role, Case], ...]] = field(default_factory=dict)
    _factorials: dict[tuple[str, tuple[str, ...]], Factorial] = field(default_factory=dict)

    def rounds(
        self, scenario: Scenario, models: tuple[str, ...], role: Role = "treatment"
    ) -> tuple[Case, ...]:
        """Measure and judge a scenario, at most once per run; the last round counts.

        Returns the rounds of the comparison of the treatment in that role; the control alone where
        that has no trials. A verdict that fails the scenario's gate is confirmed in a second round,
        with other schedules. Raises UserError when the environment does not come up, and then the
        same one for every scenario, and when the run ended before the first trial of both.
        """
        question = self._question(scenario, models)
        if str(question) not in self._rounds:
            first = self._measure(question)
            rounds: tuple[Mapping[Role, Case], ...] = (first,)
            unsure = {
                one: case.judgement.primary
                for one, case in first.items()
                if wants_confirmation(case.judgement)
            }
            if unsure:
                why = "; ".join(describe(one) for one in unsure.values() if one is not None)
                self.progress.note(f"{question}: measured once more before it counts: {why}")
                again = replace(question, round=2, roles=("control", *unsure))
                rounds = (first, self._measure(again))
            self._rounds[str(question)] = rounds
        rounds = self._rounds[str(question)]
        found = tuple(one[role] for one in rounds if role in one)
        if found:
            return found
        # The control was run alone, or the run ended before the treatment's first trial.
        measured = next(iter(rounds[0].values()))
        control = tuple(one for one in measured.trials if one.role == "control")
        if not control:
            raise UserError(f"{question}: the run ended before any trial of {role}, or the control")
        return (Case(judge(control), control),)

    def factorial(self, scenario: Scenario, models: tuple[str, ...]) -> Factorial | None:
        """The effects of the factors in the last round that had all four arms.

        None of a run without factors, or before `rounds` has been asked for.
        """
        return self._factorials.get((scenario.name, models))

    def first_round(self, scenario: Scenario, models: tuple[str, ...]) -> Mapping[Role, Case]:
        """Measure and judge a scenario once, whatever the verdicts; by the treatments' roles."""
        return self._measure(self._question(scenario, models))

    def why_not(self, scenario: Scenario) -> str | None:
        """Why the scenario cannot be measured with the options that were given; None if it can."""
        return why_not(scenario, self.config)

    def close(self) -> None:
        """Stop what was started, also when starting failed half way, and let others measure."""
        self._cleanup.close()

    def _question(self, scenario: Scenario, models: tuple[str, ...]) -> Question:
        scenario = scenario.fitted(*self.config.request_tokens)
        self.config.slos.check_tenants(scenario.name, scenario.tenants)
        slos = {
            slo_key(model, tenant): self.config.slos.resolve(scenario.name, model, tenant)
            for model in models
            for tenant in ("", *scenario.tenants)
        }
        options = self.config.options
        verdicts = len(self.config.arms) - 1 if self.compares else 1
        facts = replace(scenario.facts(slos), alpha=ALPHA / verdicts)
        return Question(
            scenario,
            facts,
            models,
            rate_rps=options.rate,
            concurrency=self.config.in_flight,
            measures_capacity=self.config.measures_capacity,
        )

    def _measure(self, question: Question) -> Mapping[Role, Case]:
        """The cases by the role of their treatment; a control alone is under its own role."""
        experiment = self._started()
        if self.compares:
            self.progress.note(f"{question}: {self._detectable(question)}")
        trials = experiment.run(question)
        found = cases(trials)
        if (effects := factorial_of(trials)) is not None:
            self._factorials[effects.scenario, effects.models] = effects
        valid = [one.judgement.effects for one in found if not one.judgement.invalid_reasons]
        spreads = [(spread, len(one)) for one in valid if (spread := spread_of(one)) is not None]
        spread = pooled_spread(spreads)
        if spread is not None:
            self._noise.remember(self._noise_key(question), spread, spreads[0][1])
        treatments = sorted({trial.role for trial in trials} - {"control"}, key=role_number)
        return dict(zip(treatments or CONTROL, found, strict=True))

    def _detectable(self, question: Question) -> str:
        """The smallest difference that the profile can find, by the noise of earlier runs."""
        spreads = self._noise.known(self._noise_key(question))
        blocks = self.config.profile.looks[-1]
        spread = pooled_spread(spreads)
        if spread is None:
            return (
                f"up to {blocks} blocks; what they can find is not known yet, for this is the "
                "first such comparison here"
            )
        factor = smallest_factor(spread, blocks, question.facts.alpha)
        return (
            f"up to {blocks} blocks find a difference of {factor - 1:.0%} in 90 % of runs, by the "
            f"noise of {len(spreads)} earlier here"
        )

    def _noise_key(self, question: Question) -> str:
        """What runs must have in common for their noise to be comparable."""
        config = self.config
        return " ".join(
            (
                *(platform.node(), config.options.env, config.profile.name, question.scenario.name),
                *("+".join(question.models), question.facts.primary),
                *(arm.name for arm in config.arms.values()),
                *(str(one) for one in (config.options.rate, config.options.concurrency) if one),
            )
        )

    @property
    def _noise(self) -> NoiseStore:
        return NoiseStore(self.config.results / "noise.json")

    def _started(self) -> Experiment:
        if self._failure is not None:
            raise self._failure
        if self._experiment is None:
            try:
                self._experiment = self._start()
            except UserError as error:
                self._failure = error
                raise
        return self._experiment

    def _start(self) -> Experiment:
        config = self.config
        environment = self.make_environment()
        what = f"run {config.run_id} ({', '.join(arm.name for arm in config.arms.values())})"
        held = environment.hold(what, self.progress, config.options.wait_for_run)
        self._cleanup.enter_context(held)
        self._cleanup.callback(environment.stop)
        site = environment.site()
        accuracy = check_client(self.progress, site)  # before engines make the machine busy
        driver = make_driver(
            config.options.driver,
            config.cache,
            environment.tokenizer_folder,
            self.progress,
            site,
            config.options.load_processes,
        )
        arms = {role: config.arms[role] for role in (config.arms if self.compares else CONTROL)}
        environment.start(config.models)
        start_arms(environment, arms, 1, config.model_names)
        context = RunContext(
            environment=environment,
            site=site,
            calibration=EngineCalibration(
                site=site,
                targets=lambda: environment.targets(config.arms),
                others=lambda: environment.other_targets(arms),
                budget=Budget(
                    config.options.max_requests,
                    config.options.max_tokens,
                    asks=config.endpoints is not None and not config.options.yes,
                ),
                tokenizers={
                    name: environment.tokenizer_folder(name) for name in config.model_names
                },
                max_num_seqs=config.max_num_seqs,
                window_s=config.profile.capacity_s,
                drain_s=config.profile.drain_s,
                run_id=config.run_id,
                seed=config.options.seed,
                progress=self.progress,
            ),
            driver=driver,
            store=TrialStore(config.results),
            progress=self.progress,
            run_id=config.run_id,
            seed=config.options.seed,
            arms=arms,
            profile=config.profile,
            provenance={
                **self.provenance,
                "environment": dict(environment.facts()),
                "load_generator": asdict(accuracy),
                "site": dict(site.facts()),
            },
            accuracy=accuracy,
            levels=config.levels,
        )
        return Experiment(context)
