"""What a run asks for, given what its trials come out as. No engine is started."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from bench.analysis.blocks import order
from bench.analysis.judgement import Verdict
from bench.analysis.verdict import ALPHA
from bench.config.config import resolve
from bench.config.options import Options
from bench.environments.base import Environment
from bench.errors import UserError
from bench.experiment.experiment import Experiment
from bench.experiment.scenario import Question, Scenario
from bench.experiment.session import Session
from bench.load.plan.arrivals import ClosedLoop
from bench.load.plan.workload import Fixed, Workload
from bench.progress import PlainProgress
from bench.records import Expectation, Role, Trial, roles_for
from tests.bench.making import paired, several

SCENARIO = Scenario(
    name="heavy-tail",
    description="",
    arrival=ClosedLoop(per_sequence=1),
    workload=Workload(prompt=Fixed(32), output=Fixed(2)),
    primary="scheduled_ttft_p95_s",
    expect=Expectation.BETTER,
    metrics=("scheduled_ttft_p95_s",),
)
SLOW = (1.0, 1.1, 0.9, 1.0)
FAST = (0.3, 0.31, 0.3, 0.32)
NOISY = (0.3, 2.0, 1.0, 0.5)


@dataclass
class Scripted:
    """An experiment in which the treatment takes so long, round for round."""

    treatment_s: Sequence[Sequence[float]]
    asked: list[Question] = field(default_factory=list)

    def run(self, question: Question) -> tuple[Trial, ...]:
        made = paired(SLOW, self.treatment_s[len(self.asked)])
        self.asked.append(question)
        return tuple(replace(one, scenario=question.facts, round=question.round) for one in made)


def session(
    tmp_path: Path, *treatment_s: Sequence[float], said: io.StringIO | None = None
) -> tuple[Session, Scripted]:
    scripted = Scripted(treatment_s)

    def no_environment() -> Any:
        raise NotImplementedError

    made = Session(
        config=resolve(Options(models=("tiny-llama",)), tmp_path, "run"),
        compares=True,
        progress=PlainProgress(said or io.StringIO()),
        provenance={},
        make_environment=no_environment,
        _experiment=cast(Experiment, scripted),
    )
    return made, scripted


def verdicts(made: Session) -> list[Verdict]:
    rounds = made.rounds(SCENARIO, ("tiny-llama",))
    return [one.judgement.primary.verdict for one in rounds if one.judgement.primary]


@pytest.mark.parametrize(
    ("treatment_s", "seen"),
    [
        ([FAST], [Verdict.BETTER]),
        ([NOISY, FAST], [Verdict.INCONCLUSIVE, Verdict.BETTER]),
        ([NOISY, NOISY], [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]),
        ([[3 * one for one in SLOW], FAST], [Verdict.WORSE, Verdict.BETTER]),
        ([SLOW, FAST], [Verdict.EQUIVALENT, Verdict.BETTER]),
    ],
)
def test_what_fails_is_measured_once_more_and_no_more_than_that(
    tmp_path: Path, treatment_s: list[Sequence[float]], seen: list[Verdict]
) -> None:
    made, scripted = session(tmp_path, *treatment_s)
    assert verdicts(made) == seen
    assert [question.round for question in scripted.asked] == [1, 2][: len(seen)]
    assert verdicts(made) == seen
    assert len(scripted.asked) == len(seen), "a question is asked once in a run"


@dataclass
class ScriptedArms:
    """An experiment in which the treatments take so long, round for round."""

    rounds_s: Sequence[Sequence[Sequence[float]]]
    levels: Mapping[Role, Mapping[str, str]] = field(default_factory=dict)
    asked: list[Question] = field(default_factory=list)

    def run(self, question: Question) -> tuple[Trial, ...]:
        made = several([SLOW, *self.rounds_s[len(self.asked)]])
        names = dict(zip(roles_for(4), question.roles or roles_for(4), strict=False))
        self.asked.append(question)
        return tuple(
            replace(
                one,
                role=names[one.role],
                due=tuple(names[role] for role in one.due or order(one.block)),
                scenario=question.facts,
                round=question.round,
                levels=self.levels.get(names[one.role], {}),
            )
            for one in made
        )


def of_four(tmp_path: Path, scripted: ScriptedArms) -> Session:
    """A session that compares four arms."""
    return Session(
        config=resolve(
            Options(models=("tiny-llama",), arms=("baseline", "managed", "cache-aware", "random")),
            tmp_path,
            "run",
        ),
        compares=True,
        progress=PlainProgress(io.StringIO()),
        provenance={},
        make_environment=cast(Any, None),
        _experiment=cast(Experiment, scripted),
    )


def test_only_treatments_that_fail_are_measured_once_more(tmp_path: Path) -> None:
    scripted = ScriptedArms([[FAST, NOISY, FAST], [FAST]])
    made = of_four(tmp_path, scripted)
    seen = {
        role: [
            one.judgement.primary.verdict
            for one in made.rounds(SCENARIO, ("tiny-llama",), role)
            if one.judgement.primary
        ]
        for role in roles_for(4)[1:]
    }
    assert seen == {
        "treatment": [Verdict.BETTER],
        "treatment-2": [Verdict.INCONCLUSIVE, Verdict.BETTER],
        "treatment-3": [Verdict.BETTER],
    }
    assert [one.roles for one in scripted.asked] == [(), ("control", "treatment-2")]
    assert [one.facts.alpha for one in scripted.asked] == [ALPHA / 3, ALPHA / 3]


@dataclass
class Ended(ScriptedArms):
    """An experiment that ended before all arms had a trial."""

    arms: Sequence[Role] = ()

    def run(self, question: Question) -> tuple[Trial, ...]:
        return tuple(one for one in super().run(question) if one.role in self.arms)


def test_a_treatment_without_trials_is_never_judged_by_another_ones(tmp_path: Path) -> None:
    made = of_four(tmp_path, Ended([[FAST] * 3, [FAST]], arms=("control", "treatment")))
    (measured,) = made.rounds(SCENARIO, ("tiny-llama",), "treatment")[:1]
    assert measured.judgement.treatment is not None
    for role in ("treatment-2", "treatment-3"):
        (case,) = made.rounds(SCENARIO, ("tiny-llama",), role)
        assert case.judgement.control is not None
        assert case.judgement.treatment is None
        assert {one.role for one in case.trials} == {"control"}
    early = of_four(tmp_path, Ended([[FAST] * 3, [FAST]], arms=("treatment",)))
    with pytest.raises(UserError, match="before any trial of treatment-2, or the control"):
        early.rounds(SCENARIO, ("tiny-llama",), "treatment-2")


@pytest.mark.parametrize(("first", "counts"), [([NOISY] * 3, 2), ([FAST, NOISY, FAST], 1)])
def test_effects_are_those_of_the_last_round_that_had_all_arms(
    tmp_path: Path, first: Sequence[Sequence[float]], counts: int
) -> None:
    combined = itertools.product("48", "ab")
    levels = {
        role: {"width": width, "kind": kind}
        for role, (width, kind) in zip(roles_for(4), combined, strict=True)
    }
    made = of_four(tmp_path, ScriptedArms([first, [FAST] * first.count(NOISY)], levels))
    assert made.factorial(SCENARIO, ("tiny-llama",)) is None
    made.rounds(SCENARIO, ("tiny-llama",))
    effects = made.factorial(SCENARIO, ("tiny-llama",))
    assert effects is not None
    assert effects.round == counts


def test_the_second_round_sends_other_requests(tmp_path: Path) -> None:
    made, scripted = session(tmp_path, NOISY, FAST)
    made.rounds(SCENARIO, ("tiny-llama",))
    first, second = map(str, scripted.asked)
    assert first != second, "seeds of schedules follow from it"


def test_a_run_says_what_it_can_find_once_there_is_noise_to_go_by(tmp_path: Path) -> None:
    said = io.StringIO()
    made, _ = session(tmp_path, FAST, said=said)
    made.rounds(SCENARIO, ("tiny-llama",))
    assert "what they can find is not known yet" in said.getvalue()
    said = io.StringIO()
    made, _ = session(tmp_path, FAST, said=said)
    made.rounds(SCENARIO, ("tiny-llama",))
    assert "up to 16 blocks find a difference of " in said.getvalue()
    assert "by the noise of 1 earlier here" in said.getvalue()


class Failing:
    """An environment that comes up no further than to where load is sent from."""

    def __init__(self, told: list[str], *, in_use: bool = False) -> None:
        self._told = told
        self._in_use = in_use

    @contextmanager
    def hold(self, what: str, progress: PlainProgress, timeout_s: float) -> Iterator[None]:
        if self._in_use:
            raise UserError("in use by run 1")
        self._told.append(f"{what} holds it, after at most {timeout_s:g} s")
        yield
        self._told.append("let go")

    def site(self) -> Any:
        self._told.append("site")
        raise UserError("no site")

    def stop(self) -> None:
        self._told.append("stop")


def failing_session(tmp_path: Path, environment: Failing) -> Session:
    options = Options(models=("tiny-llama",), wait_for_run=7.0)
    return Session(
        config=resolve(options, tmp_path, "20260131-235959-a1b2"),
        compares=True,
        progress=PlainProgress(io.StringIO()),
        provenance={},
        make_environment=lambda: cast(Environment, environment),
    )


def test_other_runs_are_kept_out_before_anything_starts_and_until_all_has_stopped(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    made = failing_session(tmp_path, Failing(told))
    with pytest.raises(UserError, match="no site"):
        made.rounds(SCENARIO, ("tiny-llama",))
    made.close()
    held = "run 20260131-235959-a1b2 (baseline, managed) holds it, after at most 7 s"
    assert told == [held, "site", "stop", "let go"]


def test_nothing_is_started_or_stopped_while_another_run_measures(tmp_path: Path) -> None:
    told: list[str] = []
    made = failing_session(tmp_path, Failing(told, in_use=True))
    with pytest.raises(UserError, match="in use by run 1"):
        made.rounds(SCENARIO, ("tiny-llama",))
    made.close()
    assert told == []
