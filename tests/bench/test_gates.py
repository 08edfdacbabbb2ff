from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from bench.analysis.gates import (
    Gate,
    GateFailedError,
    Outcome,
    overall,
    require_gates,
    require_slo,
)
from bench.analysis.judgement import Comparison, Judgement, SloOutcome, SloResult, Verdict
from bench.records import Expectation, Role, Slo
from tests.bench.making import ARMS, FACTS


def comparison(verdict: Verdict) -> Comparison:
    return Comparison(
        scenario="heavy-tail",
        models=("tiny-llama",),
        metric="scheduled_ttft_p95_s",
        unit="s",
        direction="lower",
        primary=True,
        control="baseline",
        treatment="managed",
        control_value=0.9,
        treatment_value=0.3,
        ratio=0.33,
        low=0.25,
        high=0.44,
        blocks=4,
        alpha=0.02,
        verdict=verdict,
    )


def slo(role: Role, outcome: SloOutcome, model: str = "tiny-llama") -> SloResult:
    return SloResult(
        scenario="heavy-tail",
        model=model,
        role=role,
        arm=ARMS[role],
        target=0.9,
        attainment=0.62,
        low=0.5,
        high=0.7,
        outcome=outcome,
        slo=Slo(ttft_s=2.0),
    )


def judgement(
    verdict: Verdict, expect: Expectation = Expectation.BETTER, **changes: Any
) -> Judgement:
    made = Judgement(
        scenario=replace(FACTS, expect=expect),
        models=("tiny-llama",),
        environment="local",
        control="baseline",
        treatment="managed",
        ratios=dict(enumerate((0.3, 0.3, 0.4, 0.3))),
        comparisons=(comparison(verdict),),
        slos=(slo("control", SloOutcome.MET), slo("treatment", SloOutcome.MET)),
        summaries=(),
        servers=(),
        invalid_reasons=(),
        notes=(),
    )
    return replace(made, **changes)


def gates_failed(judged: Judgement) -> list[Gate]:
    with pytest.raises(GateFailedError) as caught:
        require_gates(judged)
    return [failure.gate for failure in caught.value.failures]


@pytest.mark.parametrize(
    ("verdict", "expect"),
    [
        (Verdict.BETTER, Expectation.BETTER),
        (Verdict.BETTER, Expectation.NOT_WORSE),
        (Verdict.EQUIVALENT, Expectation.NOT_WORSE),
        (Verdict.INCONCLUSIVE, Expectation.NOT_WORSE),
    ],
)
def test_verdict_as_expected_passes(verdict: Verdict, expect: Expectation) -> None:
    require_gates(judgement(verdict, expect))


@pytest.mark.parametrize(
    ("verdict", "expect", "gate"),
    [
        (Verdict.WORSE, Expectation.BETTER, Gate.WORSE),
        (Verdict.WORSE, Expectation.NOT_WORSE, Gate.WORSE),
        (Verdict.EQUIVALENT, Expectation.BETTER, Gate.NOT_BETTER),
        (Verdict.INCONCLUSIVE, Expectation.BETTER, Gate.INCONCLUSIVE),
    ],
)
def test_verdict_against_expectation_names_its_gate(
    verdict: Verdict, expect: Expectation, gate: Gate
) -> None:
    assert gates_failed(judgement(verdict, expect)) == [gate]


@pytest.mark.parametrize("verdict", [Verdict.BETTER, Verdict.WORSE])
def test_arm_that_differs_from_itself_fails(verdict: Verdict) -> None:
    assert gates_failed(judgement(verdict, treatment="baseline")) == [Gate.NOISE]


@pytest.mark.parametrize("verdict", [Verdict.EQUIVALENT, Verdict.INCONCLUSIVE])
def test_arm_that_is_like_itself_passes_whatever_is_expected(verdict: Verdict) -> None:
    require_gates(judgement(verdict, treatment="baseline"))


def test_missed_slo_of_the_treatment_fails_beside_a_good_verdict() -> None:
    slos = (slo("control", SloOutcome.MET), slo("treatment", SloOutcome.MISSED))
    assert gates_failed(judgement(Verdict.BETTER, slos=slos)) == [Gate.SLO_MISSED]


def test_missed_slo_of_the_control_is_no_fault_of_the_treatment() -> None:
    slos = (slo("control", SloOutcome.MISSED), slo("treatment", SloOutcome.UNDECIDED))
    judged = judgement(Verdict.BETTER, slos=slos)
    require_gates(judged)
    with pytest.raises(GateFailedError, match=r"^SLO missed: expected 90% .*, seen: 62\.0%$"):
        require_slo(judged)


def test_each_model_must_meet_its_objectives() -> None:
    met, missed = (SloOutcome.MET, SloOutcome.MISSED)
    slos = (slo("treatment", met), slo("treatment", missed, "tiny-qwen"))
    with pytest.raises(
        GateFailedError,
        match=r"expected 90% of managed's requests to tiny-qwen to meet ttft ≤ 2 s, seen",
    ) as caught:
        require_gates(judgement(Verdict.BETTER, slos=slos))
    assert len(caught.value.failures) == 1


def test_every_gate_that_fails_has_a_line() -> None:
    slos = (slo("control", SloOutcome.MET), slo("treatment", SloOutcome.MISSED))
    assert gates_failed(judgement(Verdict.WORSE, slos=slos)) == [Gate.WORSE, Gate.SLO_MISSED]


def test_invalid_measurement_is_judged_no_further() -> None:
    slos = (slo("control", SloOutcome.MISSED), slo("treatment", SloOutcome.MISSED))
    judged = judgement(Verdict.INVALID, slos=slos, invalid_reasons=("the client was late",))
    assert gates_failed(judged) == [Gate.INVALID]
    with pytest.raises(GateFailedError, match=r"^invalid: the client was late$"):
        require_slo(judged)


def test_the_first_line_says_what_was_expected_and_what_was_seen() -> None:
    slos = (slo("control", SloOutcome.MET), slo("treatment", SloOutcome.MISSED))
    with pytest.raises(GateFailedError) as caught:
        require_gates(judgement(Verdict.WORSE, Expectation.NOT_WORSE, slos=slos))
    assert re.match(
        r"worse: expected not worse, seen: .* of managed / baseline is 0.33 \[0.25, 0.44\] .*\n",
        str(caught.value),
    )


def test_of_an_arm_against_itself_no_difference_is_expected() -> None:
    with pytest.raises(GateFailedError, match=r"^A/A differs: expected no difference, seen: "):
        require_gates(judgement(Verdict.WORSE, treatment="baseline"))


def test_a_second_measurement_that_was_cut_off_takes_no_failure_back() -> None:
    first = judgement(Verdict.WORSE, Expectation.NOT_WORSE)
    cut_off = replace(comparison(Verdict.INCONCLUSIVE), blocks=2)
    again = judgement(Verdict.INCONCLUSIVE, Expectation.NOT_WORSE, round=2)
    assert overall([first]) is Outcome.FAILED
    assert overall([first, again]) is Outcome.HELD
    assert overall([first, replace(again, comparisons=(cut_off,))]) is Outcome.UNDECIDED
