import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bench.analysis.checks import ValidityBounds
from bench.analysis.judge import judge
from bench.analysis.judgement import Verdict
from bench.records import Accuracy, ErrorKind, Instrument, Sample, Slo, Trial, slo_key
from tests.bench.making import FACTS, INSTRUMENT, OFF, REPLICAS, answered, failed, paired

GOOD = INSTRUMENT
TTFT_S = (0.2,) * 4
OF_TENANTS = [("tiny-llama", tenant) for tenant in ("", "quiet", "greedy")]


def reasons(change: Callable[[Trial], Trial], bounds: ValidityBounds | None = None) -> str:
    trials = [change(one) for one in paired(TTFT_S, TTFT_S)]
    return "\n".join(judge(trials, bounds or ValidityBounds()).invalid_reasons)


def at(block: int, position: int, **changes: Any) -> Callable[[Trial], Trial]:
    """Change one trial."""
    return lambda one: (
        replace(one, **changes) if (one.block, one.position) == (block, position) else one
    )


def reading_of(name: str, value: float) -> Instrument:
    """An instrument without fault but for one reading."""
    changes: dict[str, Any] = {name: value}
    return replace(GOOD, **changes)


def each_sample(
    change: Callable[[Sample], Sample], role: str = "treatment"
) -> Callable[[Trial], Trial]:
    """Change every request of one arm."""
    return lambda one: (
        replace(one, samples=tuple(map(change, one.samples))) if one.role == role else one
    )


def test_a_run_without_fault_is_valid() -> None:
    assert reasons(lambda one: one) == ""


@pytest.mark.parametrize(
    ("reading", "value", "seen", "bound"),
    [
        ("dispatch_lag_p99_s", 0.12, "dispatch lag p99 120 ms", "50 ms"),
        ("loop_lag_p99_s", 0.08, "event loop lag p99 80 ms", "50 ms"),
        ("cpu_share", 0.97, "client CPU 97.0 %", "90.0 %"),
    ],
)
def test_an_instrument_that_fails_is_told_with_value_bound_and_what_to_do(
    reading: str, value: float, seen: str, bound: str
) -> None:
    late = reading_of(reading, value)
    place = "block 2 trial 1 (treatment managed)"
    told, _, remedy = reasons(at(2, 1, instrument=late)).partition("; ")
    assert told == f"{seen} in {place}, bound {bound} (1 of 4 blocks beyond)"
    assert remedy
    assert "\n" not in remedy


@pytest.mark.parametrize(
    ("reading", "whose", "bound"),
    [
        ("foreign_cpu_share", "CPU time of other processes", 0.2),
        ("stolen_cpu_share", "CPU time taken by the machine's host", 0.1),
    ],
)
def test_time_that_others_took_counts_for_a_block_as_a_whole(
    reading: str, whose: str, bound: float
) -> None:
    def taken(share: float) -> Callable[[Trial], Trial]:
        busy = reading_of(reading, share)
        return lambda one: replace(one, instrument=busy) if one.block == 2 else one

    assert reasons(taken(bound)) == ""
    assert reasons(at(2, 1, instrument=reading_of(reading, 2 * bound))) == ""
    told = f"{whose} {100 * (bound + 0.1):.1f} % in block 2, bound {100 * bound:.1f} %"
    assert reasons(taken(bound + 0.1)).startswith(f"{told} (1 of 4 blocks beyond); ")


def disturbed(*blocks: int) -> list[Trial]:
    """Six blocks, in some of which the treatment was twice as slow and the client late."""
    late = reading_of("dispatch_lag_p99_s", 0.12)
    made = paired((0.2,) * 6, [0.4 if block in blocks else 0.2 for block in range(6)])
    return [replace(one, instrument=late) if one.block in blocks else one for one in made]


def test_a_disturbed_block_costs_that_block_and_is_noted() -> None:
    judgement = judge(disturbed(1, 3))
    assert judgement.invalid_reasons == ()
    assert judgement.blocks == 4
    assert judgement.effects == pytest.approx([1.0] * 4)
    lag = "dispatch lag p99 120 ms, bound 50 ms"
    assert judgement.notes == (f"block 1 is set aside: {lag}", f"block 3 is set aside: {lag}")


def test_a_machine_that_is_hardly_ever_quiet_is_no_place_to_measure() -> None:
    judgement = judge(disturbed(0, 1, 3))
    assert judgement.primary is not None
    assert judgement.primary.verdict is Verdict.INVALID
    (reason,) = judgement.invalid_reasons
    assert "dispatch lag p99 120 ms in block 0 trial 0" in reason
    assert "(3 of 6 blocks beyond)" in reason


def test_what_sets_a_block_aside_is_no_laxer_for_the_slower_arm() -> None:
    """10 % of the latency of both arms together is allowed: 60 ms here."""
    lag = reading_of("dispatch_lag_p99_s", 0.08)
    for role in ("control", "treatment"):
        slow = [
            replace(one, instrument=lag) if one.role == role else one
            for one in paired((0.2,) * 4, (0.6,) * 4)
        ]
        assert "dispatch lag p99 80 ms" in "".join(judge(slow).invalid_reasons)


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize(
    "reading",
    ["dispatch_lag_p99_s", "loop_lag_p99_s", "cpu_share", "foreign_cpu_share", "stolen_cpu_share"],
)
def test_a_reading_that_is_no_number_does_not_pass(reading: str, position: int) -> None:
    assert "nan" in reasons(at(0, position, instrument=reading_of(reading, math.nan)))


def test_what_other_processes_did_may_be_unknown_and_that_is_noted() -> None:
    unknown = replace(GOOD, foreign_cpu_share=None, stolen_cpu_share=None)
    trials = [at(1, 2, instrument=unknown)(one) for one in paired(TTFT_S, TTFT_S)]
    assert judge(trials).invalid_reasons == ()
    assert judge(trials).notes == (
        "how much CPU time other processes took is unknown in 1 of 16 trials",
    )


def test_engines_that_changed_speed_are_noted() -> None:
    def noted(after_rps: float) -> tuple[str, ...]:
        trials = paired(TTFT_S, TTFT_S)
        trials[-1] = replace(trials[-1], capacity_rps=80.0, capacity_after_rps=after_rps)
        assert judge(trials).invalid_reasons == ()
        return judge(trials).notes

    (slower,), (faster,) = noted(60.0), noted(100.0)
    assert "could serve 60.0 to 80.0 req/s" in slower
    assert "could serve 80.0 to 100.0 req/s" in faster
    assert noted(78.0) == ()


@pytest.mark.parametrize("metric", ["ttft", "itl", "e2e"])
def test_a_client_whose_timing_is_off_by_much_of_the_latency_is_told(metric: str) -> None:
    off = {"ttft": OFF, "itl": OFF, "e2e": OFF, metric: replace(OFF, p50_s=0.02)}
    instrument = replace(GOOD, accuracy=Accuracy(16, **off))

    def measured(ttft_s: float) -> str:
        made = paired((ttft_s,) * 4, (ttft_s,) * 4)
        invalid = judge([replace(one, instrument=instrument) for one in made]).invalid_reasons
        return "\n".join(invalid)

    assert "median error of the client's timing 20 ms" in measured(0.2)
    assert "bound 10 ms (4 of 4 blocks beyond); see what make calibrate tells" in measured(0.2)
    assert measured(1.0) == ""


def test_a_single_wrong_timing_at_the_start_does_not_invalidate() -> None:
    odd = replace(OFF, p95_s=0.5, p99_s=1.0, max_s=2.0)
    instrument = replace(GOOD, accuracy=Accuracy(16, odd, odd, odd))
    assert reasons(lambda one: replace(one, instrument=instrument)) == ""


def falling_behind(one: Sample) -> Sample:
    """Each request 5 ms later than the one before it."""
    assert one.sent_s is not None
    return replace(one, sent_s=one.sent_s + 0.005 * one.index)


def test_a_client_that_falls_further_and_further_behind_is_told() -> None:
    seen = reasons(each_sample(falling_behind))
    assert "schedule slip 180 ms in block 0 trial 1 (treatment managed), bound 100 ms" in seen


def test_a_closed_loop_has_no_schedule_to_fall_behind() -> None:
    closed = each_sample(falling_behind)
    assert reasons(lambda one: replace(closed(one), concurrency=4, offered_rps=None)) == ""


def test_lag_that_is_small_beside_the_latency_is_allowed() -> None:
    lag = replace(GOOD, dispatch_lag_p99_s=0.12)
    slow = [replace(one, instrument=lag) for one in paired((2.0,) * 4, (2.0,) * 4)]
    fast = [replace(one, instrument=lag) for one in paired((0.5,) * 4, (0.5,) * 4)]
    assert judge(slow).invalid_reasons == ()
    assert judge(fast).invalid_reasons != ()


def test_planned_requests_that_were_never_sent_are_the_clients_fault() -> None:
    def unsent(one: Sample) -> Sample:
        return failed(one.index, ErrorKind.TIMEOUT, sent_s=None) if one.index < 4 else one

    assert "planned requests not sent 10.0 %" in reasons(each_sample(unsent))


def test_a_refused_connection_is_the_systems_fault() -> None:
    def refused(one: Sample) -> Sample:
        return failed(one.index, ErrorKind.CONNECT, sent_s=None) if one.index < 4 else one

    seen = reasons(each_sample(refused))
    assert "not sent" not in seen
    assert "treatment managed: 32 of 320 requests failed, bound 2.0 %; mostly connect" in seen


def test_failures_beyond_the_bound_are_told_with_the_commonest_kind() -> None:
    def broken(one: Sample) -> Sample:
        return failed(one.index) if one.index < 2 else one

    told = "16 of 320 requests failed, bound 2.0 %; mostly status (out of luck)"
    assert reasons(each_sample(broken)) == f"treatment managed: {told}"
    assert reasons(each_sample(broken, role="control")) == f"control baseline: {told}"


def test_a_limited_rate_is_not_taken_for_overload() -> None:
    def limited(one: Sample) -> Sample:
        return failed(one.index, ErrorKind.RATE_LIMITED) if one.index < 2 else one

    assert "a limit of the server, which need not be overloaded" in reasons(each_sample(limited))


def overloaded(error: ErrorKind) -> list[Trial]:
    """A greedy tenant, three of whose four requests the treatment fails, beside a quiet one."""
    facts = replace(FACTS, overload=True, tenants=("quiet", "greedy"))
    facts = replace(facts, slos={slo_key(*one): Slo(ttft_s=1.0) for one in OF_TENANTS})

    def sent(one: Sample, role: str) -> Sample:
        tenant = "quiet" if one.index % 2 else "greedy"
        if role == "treatment" and tenant == "greedy" and one.index % 8:
            return failed(one.index, error, tenant=tenant)
        return replace(one, tenant=tenant)

    return [
        replace(one, scenario=facts, samples=tuple(sent(each, one.role) for each in one.samples))
        for one in paired(TTFT_S, TTFT_S)
    ]


def test_what_is_rejected_in_overload_fails_and_is_counted_but_is_no_fault() -> None:
    judgement = judge(overloaded(ErrorKind.RATE_LIMITED))
    assert judgement.invalid_reasons == ()
    (told,) = (note for note in judgement.notes if "rejected" in note)
    assert told == (
        "treatment managed: requests that were rejected (429): 120 of 160 of greedy, 0 of 160 of"
        " quiet"
    )
    attained = {(one.role, one.tenant): one.attainment for one in judgement.slos}
    assert attained["control", "greedy"] == 1.0
    assert attained["treatment", "greedy"] == 0.25
    assert attained["treatment", "quiet"] == 1.0
    primary = judgement.primary
    assert primary is not None
    assert primary.treatment_value == math.inf, "a request that was rejected is no fast one"
    assert "failed different shares of their requests" in "".join(primary.reasons)


def test_other_failures_in_overload_are_one() -> None:
    (reason,) = judge(overloaded(ErrorKind.UNAVAILABLE)).invalid_reasons
    assert "120 of 320 requests failed" in reason


def notes_on_starts(engines: Callable[[Trial], str]) -> list[str]:
    trials = [replace(one, engines=engines(one)) for one in paired(TTFT_S, TTFT_S)]
    return [note for note in judge(trials).notes if "start" in note]


@pytest.mark.parametrize("engines", ["", "baseline 1"])
def test_arms_with_the_same_engines_have_no_starts_of_their_own(engines: str) -> None:
    assert notes_on_starts(lambda _: engines) == []


def test_starts_of_each_arms_own_engines_are_counted() -> None:
    # The control's trials at both ends of a block, those of the treatment beside each other.
    def anew(one: Trial) -> str:
        return f"{one.role} {one.block} {one.position if one.role == 'control' else ''}"

    told = "starts of engines: 8 of control baseline, 4 of treatment managed"
    assert notes_on_starts(anew) == [told]


def test_few_starts_do_not_tell_how_much_engines_vary() -> None:
    counted, unknown = notes_on_starts(lambda one: f"{one.role} {one.block % 2}")
    assert counted == "starts of engines: 2 of control baseline, 2 of treatment managed"
    assert "does not tell how much engines differ from start to start" in unknown
    assert "the interval does not cover it" in unknown


def test_a_few_failures_do_not_invalidate() -> None:
    assert reasons(at(0, 0, samples=(failed(0), *(answered(i, 0.2) for i in range(1, 40))))) == ""


@pytest.mark.parametrize(
    "count", [{"prompt_tokens": 17}, {"output_tokens": 6}, {"output_tokens": None}]
)
def test_answers_of_another_length_than_asked_are_told(count: dict[str, Any]) -> None:
    seen = reasons(each_sample(lambda one: replace(one, **count)))
    assert "treatment managed: 320 of 320 answers have other token counts than asked" in seen
    assert "for 16 + 5" in seen


def test_arms_of_a_block_must_replay_the_same_schedule() -> None:
    assert "block 3 replayed different schedules" in reasons(at(3, 2, schedule_sha256="f" * 64))


def test_a_primary_percentile_of_too_few_requests_is_told() -> None:
    few = judge(paired(TTFT_S, TTFT_S, n=29)).invalid_reasons
    assert few == (
        "scheduled_ttft_p95_s rests on 58 values in block 0 (control); it needs 60:"
        " lengthen the trials or raise the rate",
    )
    assert judge(paired(TTFT_S, TTFT_S, n=30)).invalid_reasons == ()


def test_trials_that_were_cut_short_or_empty_are_told() -> None:
    assert reasons(at(1, 2, cut_short=True)) == (
        "block 1 trial 2 (control baseline) was cut short after 11.5 s"
    )
    assert "block 1 trial 2 (control baseline) has no requests" in reasons(at(1, 2, samples=()))


def test_bounds_can_be_moved() -> None:
    busy = at(0, 0, instrument=replace(GOOD, cpu_share=0.97))
    assert reasons(busy) != ""
    assert reasons(busy, ValidityBounds(client_cpu_share=1.0)) == ""


def test_a_replica_that_an_arm_never_used_is_noted_and_not_invalid() -> None:
    only_first = each_sample(lambda one: replace(one, replica=REPLICAS[0].name))
    judgement = judge([only_first(one) for one in paired(TTFT_S, TTFT_S)])
    assert judgement.invalid_reasons == ()
    assert judgement.notes == ("treatment managed: replica tiny-llama-1 answered no request",)


def test_replicas_may_be_named_by_url() -> None:
    urls = {replica.name: replica.url for replica in REPLICAS}
    change = each_sample(lambda one: replace(one, replica=urls[one.replica or ""]))
    assert judge([change(one) for one in paired(TTFT_S, TTFT_S)]).notes == ()


def test_where_answers_name_no_replica_that_is_said_and_none_is_missed() -> None:
    unnamed = each_sample(lambda one: replace(one, replica=None), "control")
    trials = [unnamed(one) for one in paired(TTFT_S, TTFT_S)]
    answers = sum(len(one.samples) for one in trials if one.role == "control")
    assert judge(trials).notes == (
        f"control baseline: which replica gave an answer is not known for {answers} of {answers} "
        "(connections: kept); how many each gave is by its own count",
    )


def test_replicas_of_models_that_were_not_asked_are_not_missed() -> None:
    other = replace(REPLICAS[0], model="tiny-qwen", name="tiny-qwen-0", url="http://127.0.0.1:9")
    trials = [replace(one, replicas=(*REPLICAS, other)) for one in paired(TTFT_S, TTFT_S)]
    assert judge(trials).notes == ()


def bypassed_by(*samples: Sample) -> Callable[[Trial], Trial]:
    return lambda one: replace(one, bypassed=samples)


def test_requests_that_bypassed_the_arms_are_in_none_of_their_metrics() -> None:
    trials = paired(TTFT_S, TTFT_S)
    beside = bypassed_by(*(answered(40 + index, 30.0) for index in range(40)))
    assert judge([beside(one) for one in trials]) == judge(trials)


def test_requests_that_bypassed_the_arms_must_have_been_answered() -> None:
    told = reasons(bypassed_by(*(failed(40 + index) for index in range(10))))
    assert "control baseline: 80 of 400 requests failed" in told


def test_requests_that_were_to_bypass_the_arms_must_have_been_sent() -> None:
    unsent = failed(40, ErrorKind.TIMEOUT, sent_s=None, status=None)
    assert "planned requests not sent 20.0 %" in reasons(bypassed_by(*[unsent] * 10))
