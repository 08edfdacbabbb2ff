from __future__ import annotations

from dataclasses import replace

import pytest

from bench.analysis.gates import (
    EXIT_CODES,
    Gate,
    Outcome,
    gating,
    outcome_line,
    outcome_of,
    outcome_of_gates,
    overall,
    wants_confirmation,
)
from bench.analysis.judgement import Judgement, SloOutcome, Verdict
from bench.records import Expectation
from tests.bench.test_gates import judgement, slo

HELD = judgement(Verdict.BETTER)
UNDECIDED = judgement(Verdict.INCONCLUSIVE)
WORSE = judgement(Verdict.WORSE)
INVALID = replace(HELD, invalid_reasons=("client CPU 97 %",))


@pytest.mark.parametrize(
    ("judged", "outcome", "code"),
    [
        (HELD, Outcome.HELD, 0),
        (judgement(Verdict.INCONCLUSIVE, Expectation.NOT_WORSE), Outcome.HELD, 0),
        (WORSE, Outcome.FAILED, 1),
        (judgement(Verdict.EQUIVALENT), Outcome.FAILED, 1),
        (judgement(Verdict.BETTER, treatment="baseline"), Outcome.FAILED, 1),
        (replace(HELD, slos=(slo("treatment", SloOutcome.MISSED),)), Outcome.FAILED, 1),
        (replace(HELD, slos=(slo("control", SloOutcome.MISSED),)), Outcome.HELD, 0),
        (replace(HELD, invalid_reasons=("dead replica: tiny-llama-0",)), Outcome.FAILED, 1),
        (UNDECIDED, Outcome.UNDECIDED, 3),
        (INVALID, Outcome.INVALID, 4),
    ],
)
def test_each_outcome_has_a_code_of_its_own(judged: Judgement, outcome: Outcome, code: int) -> None:
    assert outcome_of(judged) is outcome
    assert EXIT_CODES[outcome] == code


def test_the_objectives_of_an_arm_alone_have_an_outcome_as_well() -> None:
    alone = replace(HELD, treatment=None, comparisons=())
    assert outcome_of(alone) is Outcome.HELD
    missed = replace(alone, slos=(slo("control", SloOutcome.MISSED),))
    assert outcome_of(missed) is Outcome.FAILED


def test_every_gate_comes_to_something() -> None:
    assert all(outcome_of_gates([gate]) is not Outcome.HELD for gate in Gate)
    assert outcome_of_gates([]) is Outcome.HELD


def test_a_run_comes_to_the_gravest_of_its_outcomes() -> None:
    assert overall([HELD, UNDECIDED]) is Outcome.UNDECIDED
    assert overall([INVALID, HELD, UNDECIDED]) is Outcome.INVALID
    assert overall([WORSE, INVALID, HELD]) is Outcome.FAILED


def test_what_was_measured_once_more_counts_as_it_came_out_then() -> None:
    again = replace(HELD, round=2)
    assert gating([UNDECIDED, again]) == (again,)
    assert overall([WORSE, again]) is Outcome.HELD
    other = replace(WORSE, models=("tiny-qwen",))
    assert overall([WORSE, again, other]) is Outcome.FAILED


def test_the_last_line_counts_outcomes() -> None:
    assert outcome_line([HELD, UNDECIDED, HELD]) == "outcome: undecided (2 held, 1 undecided)"
    assert outcome_line([]) == "outcome: held (nothing was measured)"


@pytest.mark.parametrize(
    ("judged", "again"),
    [
        (WORSE, True),
        (UNDECIDED, True),
        (judgement(Verdict.EQUIVALENT), True),
        (judgement(Verdict.INCONCLUSIVE, Expectation.NOT_WORSE), False),
        (HELD, False),
        (replace(WORSE, invalid_reasons=("client CPU 97 %",)), False),
        (replace(HELD, slos=(slo("treatment", SloOutcome.MISSED),)), False),
    ],
)
def test_only_a_verdict_that_fails_is_measured_once_more(judged: Judgement, again: bool) -> None:
    assert wants_confirmation(judged) is again
