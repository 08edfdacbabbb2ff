"""Length distributions: bounds, means, tails. Shared prefixes: their popularity."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.plan.workload import (
    LEAST_PROMPT_TOKENS,
    Bimodal,
    Distribution,
    Fixed,
    LogNormal,
    Scaled,
    SharedPrefixes,
    Uniform,
    Workload,
)

LENGTHS = st.integers(1, 500)


def lognormal_mean(median: float, sigma: float, low: int, high: int) -> float:
    """The expected length, by E[X] = low + sum over k of P(X > k)."""
    normal = NormalDist(math.log(median), sigma)
    # Values are rounded: more than k begins at k + 1/2.
    return low + sum(1 - normal.cdf(math.log(k + 0.5)) for k in range(low, high))


@st.composite
def distributions(draw: st.DrawFn) -> tuple[Distribution, int, int, float]:
    """A distribution with its least, greatest and expected length."""
    low, high = sorted((draw(LENGTHS), draw(LENGTHS)))
    long_share = draw(st.floats(0, 1))
    median, sigma = draw(st.floats(1, 500)), draw(st.floats(0.1, 2))
    known: list[tuple[Distribution, float]] = [
        (Uniform(low, high), (low + high) / 2),
        (Bimodal(low, high, long_share), high * long_share + low * (1 - long_share)),
        (LogNormal(median, sigma, low, high), lognormal_mean(median, sigma, low, high)),
    ]
    distribution, mean = draw(st.sampled_from(known))
    return distribution, low, high, mean


@given(distributions(), st.integers(0, 2**32))
def test_lengths_stay_in_bounds_and_average_to_the_mean(
    bounded: tuple[Distribution, int, int, float], seed: int
) -> None:
    distribution, low, high, mean = bounded
    lengths = distribution.sample(2000, np.random.default_rng(seed))
    assert lengths.dtype == np.int64
    assert low <= lengths.min()
    assert lengths.max() <= high
    # six standard errors of the widest distribution within the bounds, and rounding
    assert lengths.mean() == pytest.approx(mean, abs=6 * (high - low) / 2 / 2000**0.5 + 1e-9)


@given(st.integers(1, 300), st.integers(0, 2**32))
def test_every_sample_has_the_mix_that_was_asked_for(count: int, seed: int) -> None:
    lengths = Bimodal(short=8, long=160, long_share=0.15).sample(count, np.random.default_rng(seed))
    assert abs(np.count_nonzero(lengths == 160) - 0.15 * count) <= 1


@given(st.integers(1, 300), st.integers(0, 2**32))
def test_every_twenty_in_a_row_have_that_mix(count: int, seed: int) -> None:
    lengths = Bimodal(short=8, long=160, long_share=0.15).sample(count, np.random.default_rng(seed))
    full = lengths[: count - count % 20].reshape(-1, 20)
    longs = np.count_nonzero(full == 160, axis=1)
    assert np.all(np.abs(longs - 3) <= 1)


def test_the_order_within_twenty_in_a_row_is_random() -> None:
    bimodal = Bimodal(short=8, long=160, long_share=0.15)
    runs = [bimodal.sample(40, np.random.default_rng(seed)) == 160 for seed in range(2000)]
    assert np.mean(runs, axis=0) == pytest.approx(0.15, abs=0.05)


def test_fixed_lengths_are_all_the_same() -> None:
    assert Fixed(64).sample(3, np.random.default_rng(1)).tolist() == [64, 64, 64]


def test_both_ends_of_a_uniform_distribution_occur() -> None:
    assert set(Uniform(2, 4).sample(200, np.random.default_rng(1))) == {2, 3, 4}


def test_bimodal_has_the_share_of_long_ones() -> None:
    lengths = Bimodal(short=8, long=160, long_share=0.15).sample(20_000, np.random.default_rng(1))
    assert np.mean(lengths == 160) == pytest.approx(0.15, abs=0.01)
    assert set(lengths) == {8, 160}


@pytest.mark.parametrize("bounds", [(1, 20), (3, 6)])
def test_the_mean_of_a_lognormal_allows_for_rounding_and_bounds(bounds: tuple[int, int]) -> None:
    lengths = LogNormal(4, 0.6, *bounds).sample(200_000, np.random.default_rng(1))
    assert lognormal_mean(4, 0.6, *bounds) == pytest.approx(lengths.mean(), rel=0.005)


def test_lognormal_has_its_median_and_a_heavy_tail() -> None:
    lengths = LogNormal(50, 1.0, 1, 10_000).sample(20_000, np.random.default_rng(1))
    assert np.median(lengths) == pytest.approx(50, rel=0.05)
    assert np.percentile(lengths, 97.7) == pytest.approx(50 * np.e**2, rel=0.1)


@given(st.integers(1, 12), st.integers(1, 300), st.integers(0, 2**32))
def test_every_sample_has_prefixes_in_proportion_to_zipfs_law(
    prefixes: int, count: int, seed: int
) -> None:
    drawn = SharedPrefixes(prefixes, tokens=99).sample(count, np.random.default_rng(seed))
    assert {one.tokens for one in drawn} == {99}
    total = sum(1 / rank for rank in range(1, prefixes + 1))
    for rank in range(prefixes):
        expected = count / (rank + 1) / total
        # each of the two ends of its interval may fall beside a draw or before it
        assert sum(one.seed == rank for one in drawn) == pytest.approx(expected, abs=2)
    assert len(drawn) == count


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(0),
        lambda: Uniform(5, 4),
        lambda: Uniform(0, 4),
        lambda: Bimodal(10, 5, 0.1),
        lambda: Bimodal(5, 10, 1.5),
        lambda: LogNormal(0, 1, 1, 10),
        lambda: LogNormal(5, 0, 1, 10),
        lambda: LogNormal(5, 1, 0, 10),
        lambda: SharedPrefixes(0, 64),
        lambda: SharedPrefixes(8, 0),
    ],
)
def test_impossible_lengths_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


@given(
    st.integers(64, 4000),
    st.floats(1, 1000),
    st.integers(256, 8192),
    st.one_of(st.none(), st.integers(128, 4000)),
    st.integers(0, 2**32),
)
def test_a_workload_for_gpus_is_scaled_down_to_what_an_engine_serves(
    prompt: int, median: float, limit: int, mean: int | None, seed: int
) -> None:
    large = Workload(prompt=Fixed(prompt), output=LogNormal(median, 0.7, 1, 4000))
    scaled = Scaled(large).fitted(limit, mean)
    asks = list(scaled.draw(1000, np.random.default_rng(seed)))
    assert 0.0 < scaled.factor <= 1.0
    totals = [ask.prompt_tokens + ask.output_tokens for ask in asks]
    assert max(totals) <= limit
    # A prompt has the text of its chat template at least.
    if mean is not None and scaled.factor * prompt >= LEAST_PROMPT_TOKENS:
        assert np.mean(totals) <= mean * 1.05
    if scaled.factor == 1.0 and max(totals) < limit:
        assert asks == list(large.draw(1000, np.random.default_rng(seed)))


@given(st.integers(100, 4000), st.floats(0.1, 3), st.integers(0, 2**32))
def test_prompts_of_any_length_fit_an_engine(limit: int, sigma: float, seed: int) -> None:
    varied = Workload(prompt=LogNormal(500, sigma, 64, 100_000), output=Fixed(100))
    asks = Scaled(varied, 1.0, limit).draw(200, np.random.default_rng(seed))
    for ask in asks:
        assert ask.prompt_tokens + ask.output_tokens <= limit
        assert ask.output_tokens >= 1


def test_a_workload_that_an_engine_can_serve_is_left_as_it_is() -> None:
    large = Scaled(Workload(prompt=Fixed(2048), output=Fixed(400)))
    assert large.fitted(8192).factor == 1.0
    assert large.fitted(2048, 128).factor == pytest.approx(128 / 2448)
