import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.estimates import minimum_n, percentile
from bench.analysis.metrics import METRICS, metric
from bench.analysis.timings import gaps_s, meets, tpot_s
from bench.errors import UserError
from bench.records import ErrorKind, Sample, Slo
from tests.bench.making import answered, failed, trial

finite = st.floats(min_value=0, max_value=1e6)
SLO = Slo(ttft_s=1.0, tpot_s=0.1, e2e_s=2.0)


def value(name: str, samples: list[Sample], slo: Slo = SLO) -> float | None:
    return metric(name).function(samples, 10.0, {"tiny-llama": slo})


@given(st.lists(finite, min_size=1), st.sampled_from([1, 50, 90, 95, 99]))
def test_a_percentile_is_numpys_linear_one(values: list[float], percent: int) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))


@given(st.lists(st.one_of(finite, st.just(math.inf)), min_size=1))
def test_percentiles_lie_within_the_values_and_rise(values: list[float]) -> None:
    seen = [percentile(values, percent) for percent in (0, 25, 50, 75, 95, 99, 100)]
    numbers = [one for one in seen if one is not None]
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (min(values), max(values))


def test_a_percentile_between_an_answer_and_a_failure_is_infinite() -> None:
    assert percentile([1.0, math.inf], 50) == math.inf
    assert percentile([1.0, 2.0, math.inf], 50) == 2.0


@pytest.mark.parametrize(("percent", "n"), [(50, 6), (90, 30), (95, 60), (99, 300)])
def test_a_percentile_needs_three_values_beyond_it(percent: int, n: int) -> None:
    assert minimum_n(percent) == n


@pytest.mark.parametrize("name", METRICS)
def test_no_data_is_none_and_never_zero(name: str) -> None:
    assert value(name, []) is None
    assert metric(name).over([]) is None


@pytest.mark.parametrize("name", [name for name in METRICS if name.endswith("_s")])
def test_latency_is_infinite_when_every_request_failed(name: str) -> None:
    assert value(name, [failed(0), failed(1)]) == math.inf


@pytest.mark.parametrize("quantity", ["ttft", "scheduled_ttft", "e2e", "scheduled_e2e", "tpot"])
@given(fails=st.integers(0, 30))
def test_an_arm_never_looks_faster_by_failing(quantity: str, fails: int) -> None:
    answers = [answered(index, 0.1 + 0.01 * index) for index in range(30)]
    worse = [failed(index) if index < fails else one for index, one in enumerate(answers)]
    for percent in (50, 95):
        before = value(f"{quantity}_p{percent}_s", answers)
        after = value(f"{quantity}_p{percent}_s", worse)
        assert before is not None
        assert after is not None
        # Timing of a constant TPOT is exact only to rounding.
        assert after >= before - 1e-9


@pytest.mark.parametrize("quantity", ["ttft", "scheduled_ttft", "e2e", "scheduled_e2e", "tpot"])
def test_a_stream_that_broke_after_its_first_tokens_took_forever(quantity: str) -> None:
    broken = answered(0, 0.1, error=ErrorKind.TRUNCATED)
    assert value(f"{quantity}_p50_s", [broken]) == math.inf


def test_more_is_better_for_rates_of_work_and_for_attainment_only() -> None:
    higher = {name for name, one in METRICS.items() if one.direction == "higher"}
    rates = {"throughput_rps", "output_tps", "goodput_rps", "carried_rps"}
    assert higher >= rates | {"slo_attainment", "fairness"}
    assert not any(name.endswith("_s") or name == "error_rate" for name in higher)


def test_scheduled_latencies_count_from_the_intended_arrival() -> None:
    late = answered(0, 0.5, scheduled_s=-2.0)
    assert value("ttft_p50_s", [late]) == pytest.approx(0.5)
    assert value("scheduled_ttft_p50_s", [late]) == pytest.approx(2.5)
    assert value("e2e_p50_s", [late]) == pytest.approx(0.54)
    assert value("scheduled_e2e_p50_s", [late]) == pytest.approx(2.54)


def test_tpot_uses_the_servers_count_and_needs_two_tokens() -> None:
    assert tpot_s(answered(0, 0.5)) == pytest.approx(0.04 / 4)
    assert tpot_s(answered(0, 0.5, output_tokens=9)) == pytest.approx(0.04 / 8)
    assert tpot_s(answered(0, 0.5, output_tokens=1)) is None
    assert tpot_s(failed(0)) == math.inf


def test_a_gap_that_a_failure_left_open_never_ends() -> None:
    broken = answered(0, 0.5, error=ErrorKind.DISCONNECT)
    assert gaps_s(answered(0, 0.5)) == pytest.approx([0.01] * 4)
    assert gaps_s(broken)[-1] == math.inf


def test_an_arm_that_breaks_off_its_slow_answers_gains_no_faster_gaps() -> None:
    def slow(index: int, chunks: int, **changes: Any) -> Sample:
        chunk_s = tuple(5.0 * step for step in range(1, chunks + 1))
        return answered(index, 5.0, chunk_s=chunk_s, wanted_output_tokens=64, **changes)

    whole = [slow(index, 64) for index in range(2)]
    broken = [slow(index, 1, error=ErrorKind.SHORT) for index in range(2)]
    assert len(gaps_s(whole[0])) == len(gaps_s(broken[0])) == 63
    fast = [answered(index, 0.1) for index in range(500)]
    assert value("itl_p99_s", fast + whole) == pytest.approx(5.0)
    assert value("itl_p99_s", fast + broken) == math.inf


def test_an_arm_that_fails_everything_delivers_nothing_and_meets_nothing() -> None:
    samples = [failed(0), failed(1)]
    assert value("error_rate", samples) == 1.0
    for name in ("throughput_rps", "output_tps", "goodput_rps", "slo_attainment"):
        assert value(name, samples) == 0.0


def test_rates_count_only_what_came_inside_the_window() -> None:
    inside, outside = answered(0, 0.5), answered(1, 20.0)
    straddling = answered(2, 10.0 - 0.2 - 0.015)  # two of its five chunks are in time
    samples = [inside, outside, straddling]
    assert value("throughput_rps", samples) == pytest.approx(0.1)
    assert value("goodput_rps", samples) == pytest.approx(0.1)
    assert value("output_tps", samples) == pytest.approx((5 + 2) / 10)


def test_tokens_are_the_servers_count_spread_over_the_chunks() -> None:
    merged = answered(0, 0.5, output_tokens=20, wanted_output_tokens=20)
    assert value("output_tps", [merged]) == pytest.approx(2.0)


def test_answers_without_token_counts_give_no_token_rate() -> None:
    assert value("output_tps", [answered(0, 0.5, output_tokens=None)]) is None


def test_pooled_rates_do_not_grow_with_the_number_of_trials() -> None:
    one = trial("control", 0, 0, [answered(index, 0.2) for index in range(20)])
    for name in ("throughput_rps", "output_tps", "goodput_rps"):
        assert metric(name).over([one, one]) == pytest.approx(metric(name).over([one]))


def test_a_pooled_percentile_is_that_of_all_requests_of_the_arm() -> None:
    fast = trial("control", 0, 0, [answered(index, 0.1) for index in range(10)])
    slow = trial("control", 0, 3, [answered(index, 0.9) for index in range(10)])
    assert metric("ttft_p50_s").over([fast, slow]) == pytest.approx(0.5)
    assert metric("ttft_p50_s").n([fast, slow]) == 20


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        (Slo(ttft_s=0.51), True),
        (Slo(ttft_s=0.49), False),
        (Slo(e2e_s=0.55), True),
        (Slo(e2e_s=0.53), False),
        (Slo(tpot_s=0.011), True),
        (Slo(tpot_s=0.009), False),
        (Slo(ttft_s=0.51, e2e_s=0.53), False),
    ],
)
def test_a_request_meets_its_slo_only_with_every_objective(slo: Slo, met: bool) -> None:
    assert meets(answered(0, 0.5), slo) is met
    assert not meets(failed(0), slo)


def test_an_objective_counts_the_wait_before_sending() -> None:
    assert not meets(answered(0, 0.5, scheduled_s=-1.0), Slo(ttft_s=1.0))


def test_one_token_cannot_miss_tpot_but_an_unknown_count_does() -> None:
    slo = Slo(tpot_s=0.001)
    assert meets(answered(0, 0.5, output_tokens=1), slo)
    assert not meets(answered(0, 0.5, output_tokens=None), slo)


def test_without_objectives_there_is_no_attainment_and_no_goodput() -> None:
    assert value("slo_attainment", [answered(0, 0.5)], slo=Slo()) is None
    assert value("goodput_rps", [answered(0, 0.5)], slo=Slo()) is None


@given(st.lists(finite, min_size=1, max_size=50), st.floats(0.01, 100))
def test_latencies_scale_with_the_clock(ttfts_s: list[float], factor: float) -> None:
    samples = [answered(0, ttft_s) for ttft_s in ttfts_s]
    scaled = [replace(answered(0, 0), first_token_s=factor * ttft_s) for ttft_s in ttfts_s]
    before, after = value("ttft_p95_s", samples), value("ttft_p95_s", scaled)
    assert before is not None
    assert after == pytest.approx(factor * before)


def test_an_unknown_metric_is_refused_with_the_closest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'scheduled_ttft_p95_s'"):
        metric("sheduled_ttft_p95_s")
