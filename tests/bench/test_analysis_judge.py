import itertools
import math
import random
from dataclasses import replace
from typing import Any

import pytest

from bench.analysis.blocks import order
from bench.analysis.conclude import held_back
from bench.analysis.judge import is_decided, judge
from bench.analysis.judgement import SloOutcome, Verdict
from bench.errors import UserError
from bench.records import ErrorKind, Role, Sample, Slo, Trial
from tests.bench.making import ARMS, FACTS, answered, failed, paired, trial

BASE = (0.50, 0.52, 0.48, 0.51)
HALF = tuple(ttft_s / 2 for ttft_s in BASE)


def with_facts(trials: list[Trial], **changes: Any) -> list[Trial]:
    return [replace(one, scenario=replace(FACTS, **changes)) for one in trials]


def test_a_treatment_twice_as_fast_is_better_with_its_ratio_and_interval() -> None:
    judgement = judge(paired(BASE, HALF))
    primary = judgement.primary
    assert primary is not None
    assert judgement.invalid_reasons == ()
    assert primary.verdict is Verdict.BETTER
    assert primary.primary
    assert primary.ratio == pytest.approx(0.5)
    assert primary.control_value == pytest.approx(0.505)
    assert primary.treatment_value == pytest.approx(0.2525)
    assert primary.blocks == 4
    assert judgement.effects == pytest.approx((0.5,) * 4)


def test_swapping_the_arms_makes_better_worse() -> None:
    primary = judge(paired(HALF, BASE)).primary
    assert primary is not None
    assert primary.verdict is Verdict.WORSE
    assert primary.ratio == pytest.approx(2.0)


def paced(index: int, ttft_s: float, gap_s: float) -> Sample:
    chunks = tuple(0.1 * index + ttft_s + gap_s * step for step in range(5))
    return answered(index, ttft_s, first_token_s=chunks[0], last_token_s=chunks[-1], chunk_s=chunks)


@pytest.mark.parametrize("swapped", [False, True])
def test_it_is_noted_that_an_arm_is_quick_for_it_holds_requests_back(*, swapped: bool) -> None:
    def measured(last_ttft_s: float) -> list[Trial]:
        served = tuple(paced(index, 0.2, 0.02) for index in range(40))
        quick = tuple(paced(index, 0.2 if index < 16 else last_ttft_s, 0.01) for index in range(40))
        return with_facts(
            [
                replace(
                    one,
                    elapsed_s=20.0,
                    samples=quick if (one.role == "control") is swapped else served,
                )
                for one in paired(BASE, BASE)
            ],
            primary="tpot_p50_s",
        )

    seen = judge(measured(last_ttft_s=12.0))
    assert seen.primary is not None
    assert seen.primary.verdict is (Verdict.WORSE if swapped else Verdict.BETTER)
    names = ("baseline", "managed") if swapped else ("managed", "baseline")
    line = "{} has only 0.40 [0.40, 0.40] of the output of {}: if it holds requests back, its"
    assert [note for note in seen.notes if "output of" in note] == [
        f"{line.format(*names)} tpot_p50_s is that of fewer at once"
    ]
    # Where the quick arm has as much output there is nothing to say.
    assert not [note for note in judge(measured(last_ttft_s=0.2)).notes if "output of" in note]


def test_less_output_of_one_model_alone_is_no_holding_back() -> None:
    primary = judge(with_facts(paired(BASE, HALF), primary="output_tps")).primary
    assert primary is not None
    whole = replace(primary, verdict=Verdict.BETTER, ratio=1.3, low=1.2, high=1.4)
    part = replace(whole, primary=False, models=("tiny-qwen",), ratio=0.5, low=0.4, high=0.6)
    assert list(held_back([whole, part])) == []


def test_every_metric_of_the_scenario_is_compared_the_primary_first_and_once() -> None:
    trials = with_facts(paired(BASE, HALF), metrics=("tpot_p50_s", FACTS.primary, "output_tps"))
    comparisons = judge(trials).comparisons
    assert [one.metric for one in comparisons] == [FACTS.primary, "tpot_p50_s", "output_tps"]
    assert [one.primary for one in comparisons] == [True, False, False]


def test_the_order_in_which_trials_are_handed_over_does_not_matter() -> None:
    trials = paired(BASE, HALF)
    shuffled = random.Random(1).sample(trials, len(trials))
    assert judge(shuffled) == judge(trials)


def test_an_arm_against_itself_is_told_by_role() -> None:
    trials = [replace(one, arm="baseline") for one in paired(BASE, BASE)]
    judgement = judge(trials)
    assert judgement.control == judgement.treatment == "baseline"
    assert judgement.primary is not None
    assert judgement.primary.verdict is Verdict.EQUIVALENT
    assert [one.role for one in judgement.summaries if one.metric == "output_tps"] == [
        "control",
        "treatment",
    ]


def test_slos_are_told_by_role_also_when_an_arm_runs_against_itself() -> None:
    slow = paired(BASE, (2.0,) * 4)
    judgement = judge([replace(one, arm="baseline") for one in slow])
    (control,), (treatment,) = judgement.slos_of("control"), judgement.slos_of("treatment")
    assert (control.outcome, treatment.outcome) == (SloOutcome.MET, SloOutcome.MISSED)


def test_each_of_several_models_has_a_ratio_beside_the_one_that_gates() -> None:
    judgement = judge(two_models(llama_s=0.5, qwen_s=0.25))
    whole, *parts = (one for one in judgement.comparisons if one.metric == FACTS.primary)
    assert [(one.models, one.primary) for one in (whole, *parts)] == [
        (("tiny-llama", "tiny-qwen"), True),
        (("tiny-llama",), False),
        (("tiny-qwen",), False),
    ]
    assert [one.ratio for one in parts] == pytest.approx([1.0, 0.5], rel=0.02)
    assert [one.verdict for one in parts] == [Verdict.EQUIVALENT, Verdict.BETTER]
    assert judgement.primary == whole


def test_each_model_is_held_to_its_own_objectives() -> None:
    slos = {"tiny-llama": Slo(ttft_s=0.1), "tiny-qwen": Slo(ttft_s=1.0)}
    judgement = judge(with_facts(two_models(llama_s=0.5, qwen_s=0.25), slos=slos))
    assert [(one.model, one.outcome) for one in judgement.slos_of("treatment")] == [
        ("tiny-llama", SloOutcome.MISSED),
        ("tiny-qwen", SloOutcome.MET),
    ]
    assert {one.attainment for one in judgement.slos_of("control")} == {0.0, 1.0}


def two_models(*, llama_s: float, qwen_s: float) -> list[Trial]:
    """Requests of two models in turn; the treatment's TTFT of each, the control's is 0.5 s."""
    ttfts_s = {"tiny-llama": llama_s, "tiny-qwen": qwen_s}
    return [
        replace(
            one,
            models=tuple(ttfts_s),
            samples=tuple(
                answered(
                    index,
                    ttft_s if one.role == "treatment" else 0.5,
                    model=model,
                )
                for index, (model, ttft_s) in enumerate([*ttfts_s.items()] * 30)
            ),
        )
        for one in paired((0.5,) * 4, (0.5,) * 4)
    ]


@pytest.mark.parametrize("blocks", [2, 4, 5])
@pytest.mark.parametrize(
    ("treatment", "changes"),
    [(HALF, {}), (BASE, {}), ((0.3, 0.7, 0.3, 0.7), {}), (HALF, {"cut_short": True})],
    ids=["better", "equivalent", "noisy", "invalid"],
)
def test_a_comparison_is_decided_when_its_judgement_has_a_verdict(
    treatment: tuple[float, ...], changes: dict[str, Any], blocks: int
) -> None:
    control, other = (
        tuple(itertools.islice(itertools.cycle(s), blocks)) for s in (BASE, treatment)
    )
    trials = [replace(one, **changes) for one in paired(control, other)]
    primary = judge(trials).primary
    assert primary is not None
    assert is_decided(trials) is (primary.verdict is not Verdict.INCONCLUSIVE)


def test_one_arm_alone_is_never_decided() -> None:
    assert not is_decided([one for one in paired(BASE, HALF) if one.role == "control"])


def test_blocks_that_count_have_their_ratio_under_their_index() -> None:
    trials = [
        replace(one, instrument=replace(one.instrument, foreign_cpu_share=0.9))
        if one.block == 1
        else one
        for one in paired((*BASE, 0.5), (*HALF, 0.25))
    ]
    assert judge(trials).ratios == pytest.approx(dict.fromkeys((0, 2, 3, 4), 0.5))


def test_shares_of_failed_requests_are_compared_beside_the_primary_metric() -> None:
    primary = judge(
        [
            replace(one, samples=(failed(0), *one.samples[1:])) if one.role == "treatment" else one
            for one in paired(BASE, HALF, n=80)
        ]
    ).primary
    assert primary is not None
    assert (primary.control_failed, primary.treatment_failed) == (0.0, 1 / 80)


def test_one_arm_alone_gets_slo_and_values_but_no_comparison() -> None:
    alone = [one for one in paired(BASE, HALF) if one.role == "control"]
    judgement = judge(alone)
    assert judgement.comparisons == ()
    assert judgement.primary is None
    assert judgement.treatment is None
    assert judgement.slos_of("treatment") == ()
    (slo,) = judgement.slos_of("control")
    assert slo.outcome is SloOutcome.MET
    values = {one.metric: one for one in judgement.summaries}
    assert values[FACTS.primary].value == pytest.approx(0.505)
    assert values[FACTS.primary].n == 4 * 2 * 40


def test_a_run_that_stops_in_a_block_is_judged_without_it() -> None:
    five = paired((*BASE, 0.5), (*HALF, 9.0))
    judgement = judge(five[:-1])
    assert judgement.invalid_reasons == ()
    assert judgement.primary == judge(paired(BASE, HALF)).primary
    assert judgement.notes == ("block 4 is left out: it has 3 of 4 trials",)


def test_complete_blocks_after_the_last_look_are_left_out_and_named() -> None:
    judgement = judge(paired((*BASE, 0.5), (*HALF, 9.0)))
    assert judgement.primary == judge(paired(BASE, HALF)).primary
    assert judgement.notes[0].startswith("block 4 is left out: verdicts are given at 4, 6, ")


def test_too_few_blocks_are_inconclusive_with_the_numbers_so_far() -> None:
    primary = judge(paired(BASE[:3], HALF[:3])).primary
    assert primary is not None
    assert primary.verdict is Verdict.INCONCLUSIVE
    assert primary.ratio == pytest.approx(0.5)
    assert "3 complete blocks" in primary.reasons[0]


def test_no_complete_block_is_inconclusive_and_decides_no_slo() -> None:
    judgement = judge(paired(BASE, HALF)[:2])
    assert judgement.primary is not None
    assert judgement.primary.verdict is Verdict.INCONCLUSIVE
    assert judgement.primary.control_value is None
    assert [one.outcome for one in judgement.slos] == [SloOutcome.UNDECIDED] * 2


def test_a_lost_trial_among_complete_blocks_makes_the_run_invalid() -> None:
    trials = paired((*BASE, *BASE), (*HALF, *HALF))
    judgement = judge([one for one in trials if (one.block, one.position) != (2, 1)])
    assert "block 2 is unbalanced" in judgement.invalid_reasons[0]
    assert {one.verdict for one in judgement.comparisons} == {Verdict.INVALID}


def test_a_block_that_is_lost_whole_is_named() -> None:
    trials = paired((*BASE, *BASE), (*HALF, *HALF))
    reasons = judge([one for one in trials if one.block != 1]).invalid_reasons
    assert reasons == ("block 1 is missing",)


def test_arms_that_ran_one_after_the_other_are_invalid() -> None:
    roles: tuple[Role, ...] = ("control", "control", "treatment", "treatment")
    trials = [
        trial(role, block, position, [answered(index, 0.5) for index in range(40)])
        for block in range(4)
        for position, role in enumerate(roles)
    ]
    reasons = judge(trials).invalid_reasons
    assert len(reasons) == 4
    assert "due was control treatment treatment control" in reasons[0]


def test_invalid_comparisons_keep_their_numbers() -> None:
    trials = [replace(one, cut_short=True) for one in paired(BASE, HALF)]
    primary = judge(trials).primary
    assert primary is not None
    assert primary.verdict is Verdict.INVALID
    assert primary.ratio == pytest.approx(0.5)
    assert "cut short" in primary.reasons[0]


def test_a_dead_replica_makes_even_the_first_trial_invalid() -> None:
    lone = trial("control", 0, 0, [failed(0)], dead_replicas=("tiny-llama-1",))
    reasons = judge([lone]).invalid_reasons
    assert reasons[0] == "dead replica: tiny-llama-1 after block 0 trial 0 (control baseline)"


def test_a_replica_that_died_in_a_block_left_out_makes_all_invalid() -> None:
    *before, last = paired((*BASE, 0.5), (*HALF, 0.5))[:-2]
    judgement = judge([*before, replace(last, dead_replicas=("tiny-llama-0",))])
    assert "dead replica: tiny-llama-0 after block 4 trial 1" in judgement.invalid_reasons[0]
    assert judgement.primary is not None
    assert judgement.primary.verdict is Verdict.INVALID


def test_a_secondary_percentile_of_few_requests_is_shown_and_not_judged() -> None:
    trials = with_facts(paired(BASE, HALF), metrics=("scheduled_ttft_p99_s",))
    primary, p99 = judge(trials).comparisons
    assert primary.verdict is Verdict.BETTER
    assert p99.verdict is Verdict.INCONCLUSIVE
    assert p99.ratio == pytest.approx(0.5)
    assert "needs 300" in p99.reasons[0]


def test_failures_on_both_sides_leave_no_ratio_and_say_so() -> None:
    trials = with_facts(paired(BASE, HALF), metrics=("scheduled_ttft_mean_s",))
    broken = [replace(one, samples=(*one.samples[:-1], failed(39))) for one in trials[:1]]
    mean = judge([*broken, *trials[1:]]).comparisons[1]
    assert mean.verdict is not Verdict.BETTER
    assert mean.ratio is None
    assert "requests failed" in " ".join(mean.reasons)


def test_a_metric_that_is_zero_in_both_arms_is_inconclusive_with_the_reason() -> None:
    trials = with_facts(paired(BASE, HALF), metrics=("error_rate",))
    errors = judge(trials).comparisons[1]
    assert errors.verdict is Verdict.INCONCLUSIVE
    assert (errors.control_value, errors.treatment_value, errors.ratio) == (0.0, 0.0, None)
    assert "block 0: control 0, treatment 0" in errors.reasons


def test_a_run_in_which_everything_failed_is_invalid_and_misses_its_slo() -> None:
    trials = [
        trial(role, block, position, [failed(index) for index in range(40)])
        for block in range(4)
        for position, role in enumerate(order(block))
    ]
    judgement = judge(trials)
    assert {one.verdict for one in judgement.comparisons} == {Verdict.INVALID}
    for slo in judgement.slos:
        assert (slo.attainment, slo.outcome) == (0.0, SloOutcome.MISSED)


def test_without_objectives_the_slo_is_unset() -> None:
    slos = judge(with_facts(paired(BASE, HALF), slos={"tiny-llama": Slo()})).slos
    assert [(one.outcome, one.attainment) for one in slos] == [(SloOutcome.UNSET, None)] * 2


def test_the_level_comes_from_the_scenario() -> None:
    trials = paired((0.5,) * 4, [1.30 * 0.5, 1.20 * 0.5, 1.40 * 0.5, 1.25 * 0.5])
    plain = judge(trials).primary
    wide = judge(with_facts(trials, alpha=0.0001)).primary
    assert plain is not None
    assert wide is not None
    assert (plain.verdict, wide.verdict) == (Verdict.WORSE, Verdict.INCONCLUSIVE)
    assert wide.low is not None
    assert plain.low is not None
    assert wide.low < plain.low


@pytest.mark.parametrize(
    "change",
    [{"run_id": "another"}, {"environment": "docker"}, {"models": ("tiny-qwen",)}, {"arm": "x"}],
)
def test_trials_that_do_not_belong_together_are_refused(change: dict[str, Any]) -> None:
    trials = paired(BASE, HALF)
    with pytest.raises(UserError, match="do not belong together"):
        judge([replace(trials[0], **change), *trials[1:]])


def test_no_trials_at_all_are_refused() -> None:
    with pytest.raises(UserError, match="no trials"):
        judge([])


def test_all_numbers_of_a_judgement_are_finite_or_told() -> None:
    for comparison in judge(paired(BASE, HALF)).comparisons:
        for number in (comparison.ratio, comparison.low, comparison.high):
            assert number is not None
            assert math.isfinite(number)
        assert (comparison.control, comparison.treatment) == tuple(ARMS.values())


def test_what_failed_is_noted_by_kind_also_where_it_is_too_little_to_matter() -> None:
    trials = paired(BASE, HALF)
    samples = list(trials[1].samples)
    limited = {"error": ErrorKind.RATE_LIMITED, "detail": "HTTP 429: queue full"}
    for index, error in ((3, limited), (4, limited), (5, {"error": ErrorKind.RESOLVE})):
        samples[index] = failed(index, **error)
    trials[1] = replace(trials[1], samples=tuple(samples))
    judgement = judge(trials)
    total = sum(len(one.samples) for one in trials if one.role == "treatment")
    assert judgement.notes == (
        f"treatment managed: 3 of {total} requests failed: "
        "2 rate-limited (HTTP 429: queue full), 1 resolve (out of luck)",
    )


def test_an_arm_whose_requests_open_connections_of_their_own_is_noted_once() -> None:
    trials = [
        replace(trial, connections="per-request") if trial.role == "treatment" else trial
        for trial in paired(BASE, HALF)
    ]
    assert judge(trials).notes == ("arm managed: each request opens a connection of its own",)
