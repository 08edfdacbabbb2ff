"""Arrival processes: their rate, their shape, and what they refuse."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.load.plan.arrivals import (
    ClosedLoop,
    Constant,
    Gamma,
    LongTail,
    OnOff,
    OpenLoop,
    Peaks,
    Poisson,
    Ramp,
    Times,
)

PROCESSES = st.one_of(
    st.just(Poisson(load=0.8)),
    st.just(Constant(load=0.8)),
    st.builds(Gamma, st.just(0.8), st.floats(0.01, 100)),
    st.builds(Ramp, st.just(0.8), st.floats(0, 2)),
    st.builds(
        lambda on_s, off_s, share: OnOff(0.8, on_s, off_s, ratio=1 + share * off_s / on_s),
        on_s=st.floats(0.1, 10),
        off_s=st.floats(0.1, 10),
        share=st.floats(0.01, 0.99),
    ),
)
RATES = st.floats(0.1, 200)
DURATIONS = st.floats(0.1, 60)
SEEDS = st.integers(0, 2**53)


@given(PROCESSES, RATES, DURATIONS, SEEDS)
def test_times_ascend_within_the_duration(
    process: OpenLoop, rate_rps: float, duration_s: float, seed: int
) -> None:
    times = process.times(rate_rps, duration_s, np.random.default_rng(seed))
    assert (np.diff(times) >= 0).all()
    assert ((times >= 0) & (times < duration_s)).all()


@given(PROCESSES, RATES, DURATIONS, SEEDS)
def test_the_number_of_arrivals_keeps_to_the_mean_rate(
    process: OpenLoop, rate_rps: float, duration_s: float, seed: int
) -> None:
    expected = rate_rps * duration_s
    count = len(process.times(rate_rps, duration_s, np.random.default_rng(seed)))
    # A Poisson count strays so far once in 1e9 runs; equal gaps stray by one.
    low, high = stats.poisson.interval(1 - 1e-9, expected)
    assert low - 1 <= count <= high + 1


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_vary_as_their_burstiness_says(burstiness: float) -> None:
    times = Gamma(0.8, burstiness).times(50.0, 400.0, np.random.default_rng(1))
    gaps = stats.gamma(burstiness, scale=1 / (50 * burstiness))
    assert stats.kstest(np.diff(times), gaps.cdf).pvalue > 0.01


def test_clumps_lie_anywhere_in_a_trial() -> None:
    process = Gamma(0.8, 0.25)
    times = [process.times(10.0, 1.0, np.random.default_rng(seed)) for seed in range(2000)]
    one_each = [np.random.default_rng(n).choice(found) for n, found in enumerate(times)]
    assert stats.kstest(one_each, stats.uniform.cdf).pvalue > 0.01


@given(st.floats(0, 2))
def test_a_ramp_goes_from_its_first_rate_to_as_much_on_the_other_side(first: float) -> None:
    times = Ramp(0.8, first).times(1000.0, 10.0, np.random.default_rng(1))
    quarter = np.count_nonzero(times < 2.5) / 10_000
    assert quarter == pytest.approx(0.25 * (first + (1 - first) * 0.25), abs=0.015)


def test_poisson_gaps_are_exponential() -> None:
    times = Poisson(load=0.8).times(50.0, 100.0, np.random.default_rng(1))
    assert stats.kstest(np.diff(times), stats.expon(scale=1 / 50).cdf).pvalue > 0.01


@given(RATES, SEEDS)
def test_constant_gaps_are_equal(rate_rps: float, seed: int) -> None:
    times = Constant(load=0.8).times(rate_rps, 50 / rate_rps, np.random.default_rng(seed))
    assert np.diff(times) == pytest.approx(1 / rate_rps)


def test_two_constant_streams_are_not_in_lockstep() -> None:
    first, second = (
        Constant(load=0.8).times(1.0, 10.0, np.random.default_rng(seed)) for seed in (1, 2)
    )
    assert abs(first[0] - second[0]) > 0.01


def test_a_burst_has_its_ratio_to_the_mean_and_the_rest_is_in_the_off_phase() -> None:
    process = OnOff(load=0.8, on_s=1.0, off_s=3.0, ratio=2.5)
    times = process.times(100.0, 400.0, np.random.default_rng(1))
    on_rate = np.count_nonzero(times % 4.0 < 1.0) / 100
    off_rate = np.count_nonzero(times % 4.0 >= 1.0) / 300
    assert on_rate == pytest.approx(250, rel=0.05)
    assert off_rate == pytest.approx(50, rel=0.05)


def test_at_the_highest_ratio_the_off_phase_is_silent() -> None:
    process = OnOff(load=0.8, on_s=1.0, off_s=3.0, ratio=4.0)
    times = process.times(100.0, 40.0, np.random.default_rng(1))
    assert (times % 4.0 <= 1.0).all()


def test_a_cut_last_cycle_does_not_shift_the_mean() -> None:
    process = OnOff(load=0.8, on_s=1.0, off_s=9.0, ratio=8.0)
    times = process.times(1000.0, 11.0, np.random.default_rng(1))
    assert len(times) == pytest.approx(11_000, rel=0.05)


@pytest.mark.parametrize("ratio", [1.0, 4.1, -1.0])
def test_an_impossible_burst_ratio_is_refused_with_the_range(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"ratio must be in \(1, 4\]"):
        OnOff(load=0.8, on_s=1.0, off_s=3.0, ratio=ratio)


@pytest.mark.parametrize("first", [-0.1, 2.1, float("nan")])
def test_an_impossible_ramp_is_refused_with_the_range(first: float) -> None:
    with pytest.raises(ValueError, match=r"first must be in \[0, 2\]"):
        Ramp(load=0.8, first=first)


@pytest.mark.parametrize("load", [0.0, -1.0, float("nan")])
def test_a_load_that_is_not_positive_is_refused(load: float) -> None:
    for process in (Poisson, Constant, partial(Peaks, low=0.1), partial(LongTail, exponent=1.0)):
        with pytest.raises(ValueError, match="load must be positive"):
            process(load=load)


# Arrivals that differ from model to model.

LOWS = st.floats(0.0, 0.99)
MODELS = st.integers(1, 8)


def of_models(
    arrival: Peaks | LongTail, models: int, rate_rps: float, duration_s: float, seed: int = 1
) -> list[Times]:
    """The arrivals of each model."""
    return [
        arrival.of(n, models).times(rate_rps, duration_s, np.random.default_rng([seed, n]))
        for n in range(models)
    ]


@given(LOWS, MODELS, st.booleans(), RATES, DURATIONS, SEEDS)
def test_every_model_sends_as_much_whenever_its_peak_is(
    low: float, models: int, together: bool, rate_rps: float, duration_s: float, seed: int
) -> None:
    peaks = Peaks(0.5, low, together=together)
    for times in of_models(peaks, models, rate_rps, duration_s, seed):
        assert len(times) == pytest.approx(rate_rps * duration_s, abs=0.51)
        assert (np.diff(times) >= 0).all()
        assert ((times >= 0) & (times < duration_s)).all()


@given(MODELS, RATES, DURATIONS, SEEDS)
def test_staggered_peaks_do_not_overlap(
    models: int, rate_rps: float, duration_s: float, seed: int
) -> None:
    each = of_models(Peaks(0.5, low=0.0), models, rate_rps, duration_s, seed)
    begun = [times for times in each if len(times)]
    for earlier, later in pairwise(begun):
        assert earlier[-1] <= later[0]


@given(MODELS, LOWS)
def test_peaks_are_as_high_together_as_apart_and_their_sum_differs(models: int, low: float) -> None:
    apart, together = (
        np.array([Peaks(0.5, low, together=one).of(n, models).rates for n in range(models)])
        for one in (False, True)
    )
    ratio = Peaks(0.5, low).ratio(models)
    assert np.sort(apart, axis=1) == pytest.approx(np.sort(together, axis=1))
    assert apart.sum(axis=0) == pytest.approx(models)
    assert together.sum(axis=0).max() == pytest.approx(models * ratio)
    assert np.count_nonzero(together.argmax(axis=1) == models // 2) == models


def test_a_peak_has_its_ratio_to_the_mean_and_the_rest_is_low() -> None:
    peaks = Peaks(0.5, low=0.1)
    assert peaks.ratio(3) == pytest.approx(2.5)
    for n, times in enumerate(of_models(peaks, 3, 1000.0, 30.0)):
        counts = np.histogram(times, bins=3, range=(0.0, 30.0))[0]
        assert counts == pytest.approx(
            [25_000 if n == part else 2_500 for part in range(3)], rel=0.1
        )


@given(st.floats(0.1, 4), MODELS, st.floats(1, 200), st.floats(1, 60))
def test_a_long_tail_falls_by_zipfs_law_and_keeps_the_load_of_all(
    exponent: float, models: int, rate_rps: float, duration_s: float
) -> None:
    each = of_models(LongTail(0.5, exponent), models, rate_rps, duration_s)
    counts = [len(times) for times in each]
    assert sum(counts) == pytest.approx(models * rate_rps * duration_s, abs=0.51 * models)
    for n, count in enumerate(counts):
        assert count == pytest.approx(counts[0] / (n + 1) ** exponent, abs=1.01)


@pytest.mark.parametrize("low", [-0.1, 1.0, float("nan")])
def test_an_impossible_rate_outside_a_peak_is_refused_with_the_range(low: float) -> None:
    with pytest.raises(ValueError, match=r"low must be in \[0, 1\)"):
        Peaks(load=0.5, low=low)


def test_closed_loop_concurrency_grows_with_the_replicas() -> None:
    assert ClosedLoop(per_sequence=2).concurrency(8) == 16
