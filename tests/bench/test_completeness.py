"""What counts as an answer in full, and what the rest does to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.blocks import order
from bench.analysis.judge import judge
from bench.analysis.judgement import Judgement, Verdict
from bench.records import ErrorKind, Role, Sample, Trial, fail_incomplete
from tests.bench.making import ARMS, answered, failed, trial


def kinds(samples: Sequence[Sample]) -> list[ErrorKind | None]:
    return [sample.error for sample in fail_incomplete(samples)]


@pytest.mark.parametrize("tokens", [0, 1, 4])
def test_an_answer_with_fewer_tokens_than_asked_has_failed(tokens: int) -> None:
    (sample,) = fail_incomplete([answered(0, 0.1, output_tokens=tokens)])
    assert (sample.error, sample.detail) == (ErrorKind.SHORT, f"{tokens} of 5 tokens")


def test_an_answer_without_a_count_has_failed_where_others_have_one() -> None:
    samples = [answered(0, 0.1), answered(1, 0.1, output_tokens=None)]
    assert kinds(samples) == [None, ErrorKind.TRUNCATED]


def test_a_server_that_never_counts_tokens_is_no_failure() -> None:
    assert kinds([answered(index, 0.1, output_tokens=None) for index in range(2)]) == [None, None]


def test_what_has_failed_keeps_its_own_cause() -> None:
    assert kinds([answered(0, 0.1), failed(1, ErrorKind.TIMEOUT)]) == [None, ErrorKind.TIMEOUT]


@given(st.lists(st.none() | st.integers(0, 7), max_size=12))
def test_nothing_but_incomplete_answers_is_changed(counts: list[int | None]) -> None:
    samples = [answered(index, 0.1, output_tokens=one) for index, one in enumerate(counts)]
    checked = fail_incomplete(samples)
    assert fail_incomplete(checked) == checked
    counted = any(one is not None for one in counts)
    for before, after in zip(samples, checked, strict=True):
        complete = not counted if before.output_tokens is None else before.output_tokens >= 5
        assert after.ok == complete
        assert replace(after, error=None, detail=None) == before


def judged(ended_early: int) -> Judgement:
    """Of two arms that are alike: 17 of 300 requests wait for 5 s, the rest for 0.3 s.

    But of those 17 the treatment gives so many an answer of one token after 50 ms.
    """

    def sample(index: int, role: Role) -> Sample:
        if role == "treatment" and index < ended_early:
            return answered(index, 0.05, output_tokens=1, chunk_s=(0.1 * index + 0.05,))
        return answered(index, 5.0 if index < 17 else 0.3)

    made: list[Trial] = []
    for block in range(4):
        for position, role in enumerate(order(block)):
            samples = [sample(index, role) for index in range(300)]
            made.append(trial(role, block, position, samples, duration_s=40.0, elapsed_s=41.0))
    return judge(made)


def test_answers_that_end_early_make_no_arm_better() -> None:
    primary = judged(ended_early=3).primary
    assert primary is not None
    assert primary.verdict is Verdict.EQUIVALENT
    assert primary.ratio == pytest.approx(1.0)


def test_what_failed_is_listed_and_stands_beside_the_verdict() -> None:
    judgement = judged(ended_early=3)
    assert judgement.primary is not None
    assert judgement.primary.reasons == (
        "the arms failed different shares of their requests: control baseline 0.00 % (0 of 2400),"
        " treatment managed 1.00 % (24 of 2400)",
    )
    assert (
        f"treatment {ARMS['treatment']}: 24 of 2400 requests failed: 24 short (1 of 5 tokens)"
        in judgement.notes
    )


def test_a_model_that_one_arm_fails_more_often_is_told_where_the_arms_fail_alike() -> None:
    failing: dict[Role, str] = {"control": "tiny-llama", "treatment": "tiny-qwen"}

    def sample(index: int, role: Role) -> Sample:
        model = ("tiny-llama", "tiny-qwen")[index % 2]
        if index < 2 and model == failing[role]:
            return failed(index, model=model)
        return answered(index, 0.3, model=model)

    judgement = judge(
        [
            trial(
                *(role, block, position),
                [sample(index, role) for index in range(300)],
                models=("tiny-llama", "tiny-qwen"),
            )
            for block in range(4)
            for position, role in enumerate(order(block))
        ]
    )
    unlike = {
        one.models: [line for line in one.reasons if "different shares" in line]
        for one in judgement.comparisons
        if one.metric == judgement.scenario.primary
    }
    assert unlike.pop(("tiny-llama", "tiny-qwen")) == []
    assert unlike == {
        ("tiny-llama",): [
            "the arms failed different shares of their requests: control baseline 0.67 %"
            " (8 of 1200), treatment managed 0.00 % (0 of 1200)"
        ],
        ("tiny-qwen",): [
            "the arms failed different shares of their requests: control baseline 0.00 %"
            " (0 of 1200), treatment managed 0.67 % (8 of 1200)"
        ],
    }


def test_requests_past_an_arm_that_fail_are_listed_and_told_as_well() -> None:
    made = [
        trial(
            *(role, block, position),
            [answered(index, 0.3) for index in range(299)],
            bypassed=(failed(299) if role == "treatment" else answered(299, 0.3),),
        )
        for block in range(4)
        for position, role in enumerate(order(block))
    ]
    judgement = judge(made)
    assert judgement.primary is not None
    assert any("managed 0.33 % (8 of 2400)" in line for line in judgement.primary.reasons)
    assert any("8 of 2400 requests failed: 8 status" in note for note in judgement.notes)


def test_arms_that_fail_alike_have_no_remark() -> None:
    primary = judged(ended_early=0).primary
    assert primary is not None
    assert primary.reasons == ()
