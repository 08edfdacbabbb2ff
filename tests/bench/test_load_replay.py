"""Recorded traffic: fitted to an engine, replayed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.load.plan.schedule import plan_traffic
from bench.load.plan.traces.files import Trace
from bench.load.plan.traces.formats import TraceRequest
from bench.load.plan.traces.replay import Fit, Replay, ReplayedLengths, fit_trace
from bench.load.plan.workload import LEAST_PROMPT_TOKENS

requests = st.builds(TraceRequest, st.floats(0, 1e4), st.integers(1, 200_000), st.integers(1, 4000))
traces = st.lists(requests, min_size=2, max_size=60).map(
    lambda found: Trace("t", tuple(sorted(found, key=lambda one: one.at_s)))
)


@given(traces, st.sampled_from([512, 2048, 8192]), st.none() | st.integers(100, 4000))
def test_what_is_fitted_fits_and_keeps_its_proportions(
    trace: Trace, limit: int, mean: int | None
) -> None:
    fit = fit_trace(trace, limit, mean)
    assert 0 < fit.factor <= 1
    for one, ask in zip(trace.requests, fit.asks, strict=True):
        assert ask.prompt_tokens + ask.output_tokens <= limit
        assert ask.output_tokens >= 1
        scaled = one.prompt_tokens * fit.factor
        if LEAST_PROMPT_TOKENS <= scaled <= limit - ask.output_tokens:
            assert abs(ask.prompt_tokens - scaled) <= 0.5
    # What was altered beyond the factor is at most what was said.
    altered = sum(
        abs(ask.prompt_tokens - one.prompt_tokens * fit.factor) > 0.5
        for one, ask in zip(trace.requests, fit.asks, strict=True)
    )
    assert altered <= fit.lengthened + fit.shortened + 1


def test_an_answer_may_take_most_of_what_fits() -> None:
    trace = Trace("t", tuple(TraceRequest(float(at), 100, 1900) for at in range(200)))
    fit = fit_trace(trace, 2048)
    assert {(ask.prompt_tokens, ask.output_tokens) for ask in fit.asks} == {(100, 1900)}
    assert (fit.factor, fit.lengthened, fit.shortened) == (1.0, 0, 0)


def test_a_shortened_answer_is_counted() -> None:
    requests = [TraceRequest(float(at), 100, 100) for at in range(200)]
    trace = Trace("t", (*requests, TraceRequest(200.0, 10, 10_000)))
    fit = fit_trace(trace, 2048)
    assert (fit.asks[-1].prompt_tokens, fit.asks[-1].output_tokens) == (64, 1984)
    assert (fit.lengthened, fit.shortened) == (1, 1)


def test_what_fits_as_it_is_stays_as_it_is() -> None:
    trace = Trace("t", tuple(TraceRequest(at, 100 + at, 10 + at) for at in range(50)))
    fit = fit_trace(trace, 8192)
    assert (fit.factor, fit.lengthened, fit.shortened) == (1.0, 0, 0)
    assert [ask.prompt_tokens for ask in fit.asks] == [one.prompt_tokens for one in trace.requests]


@st.composite
def conversations(draw: st.DrawFn) -> Trace:
    """Prompts in blocks of 512, of which many begin alike."""
    found = []
    for at in range(draw(st.integers(2, 20))):
        shared = draw(st.integers(0, 4))
        own = draw(st.integers(0, 3))
        blocks = (*range(shared), *(1000 * at + 100 + number for number in range(own)), 7 + at)
        tokens = 512 * (len(blocks) - 1) + draw(st.integers(1, 512))
        found.append(TraceRequest(float(at), tokens, 20, blocks))
    return Trace("t", tuple(found), 512)


@given(conversations(), st.sampled_from([512, 2048]))
def test_prompts_that_share_blocks_share_prefixes(trace: Trace, limit: int) -> None:
    fit = fit_trace(trace, limit)
    for one, ask in zip(trace.requests, fit.asks, strict=True):
        assert [prefix.seed for prefix in ask.prefixes] == list(one.blocks)
        wanted = max(sum(prefix.tokens for prefix in ask.prefixes), LEAST_PROMPT_TOKENS)
        assert ask.prompt_tokens == min(wanted, limit - ask.output_tokens)
    whole = {prefix.tokens for ask in fit.asks for prefix in ask.prefixes[:-1]}
    assert len(whole) <= 1


# Replaying.


def even(count: int = 1000, gap_s: float = 2.0) -> Fit:
    return fit_trace(
        Trace("even", tuple(TraceRequest(gap_s * n, 100 + n, 10) for n in range(count))), 8192
    )


@given(st.floats(2, 50), st.floats(2, 20), st.integers(0, 2**32))
def test_a_window_has_the_trace_at_another_pace(rate: float, duration: float, seed: int) -> None:
    window = list(Replay(even(), 0.7).stream(rate, duration, np.random.default_rng(seed)))
    times = [at for at, _ in window]
    assert all(0 <= at < duration for at in times)
    assert abs(len(window) - rate * duration) <= 2
    gaps = np.diff(times)
    assert gaps == pytest.approx([2.0 * even().trace.rate_rps / rate] * len(gaps))
    lengths = [ask.prompt_tokens for _, ask in window]
    assert lengths == list(range(lengths[0], lengths[0] + len(lengths)))


def test_trials_replay_different_parts_and_arms_the_same() -> None:
    replay = Replay(even(), 0.7)
    plans = [
        plan_traffic(seed=seed, rates_rps={"m": 20.0, "n": 20.0}, traffic=replay, duration_s=5)
        for seed in (1, 1, 2)
    ]
    assert plans[0].sha256 == plans[1].sha256 != plans[2].sha256
    assert plans[0].offered_rps == pytest.approx(40, rel=0.05)
    by_model = {
        model: [one.prompt_tokens for one in plans[0].requests if one.model == model]
        for model in "mn"
    }
    assert by_model["m"] != by_model["n"]


def test_a_trace_that_is_too_short_is_told() -> None:
    with pytest.raises(UserError, match=r"lasts 4.0 s at 5.0 req/s, a trial takes 5 s; give a lon"):
        list(Replay(even(20), 0.7).stream(5.0, 5.0, np.random.default_rng(1)))


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_capacity_is_measured_with_lengths_in_their_order(count: int, seed: int) -> None:
    drawn = list(ReplayedLengths(even()).draw(count, np.random.default_rng(seed)))
    lengths = [ask.prompt_tokens - 100 for ask in drawn]
    assert lengths == [(lengths[0] + n) % 1000 for n in range(count)]
