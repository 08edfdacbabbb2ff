"""A trace as an engine can serve it: its lengths scaled, and its windows sent again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from bench.errors import UserError
from bench.load.plan.traces.files import Trace
from bench.load.plan.traces.formats import TraceRequest
from bench.load.plan.workload import LEAST_PROMPT_TOKENS, Ask
from bench.records import Prefix

# This share of the longest requests may be shortened: a factor that fits the longest one would
# leave almost nothing of the others.
_SHORTENED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Fit:
    """A trace as an engine can serve it: times and lengths of its requests.

    Lengths are the trace's times `factor`. `lengthened` prompts had fewer than
    `LEAST_PROMPT_TOKENS` then, and `shortened` requests more than `limit_tokens`.
    """

    trace: Trace
    times_s: tuple[float, ...]
    asks: tuple[Ask, ...]
    limit_tokens: int
    factor: float
    lengthened: int
    shortened: int

    def __str__(self) -> str:
        """One line for people: how the trace was changed."""
        count, span_s = len(self.asks), self.trace.span_s
        shared = sum(bool(ask.prefixes) for ask in self.asks)
        source = f"{self.trace.name} ({self.trace.rows:,} rows)"
        parts = [
            f"{count:,} requests in {span_s:,.0f} s of {source}",
            f"lengths x {self.factor:.3g}",
            f"{self.lengthened / count:.1%} of prompts lengthened to {LEAST_PROMPT_TOKENS} tokens",
            f"{self.shortened / count:.1%} of requests shortened to {self.limit_tokens}",
        ]
        if shared:
            parts.append("prefixes shared as in the trace")
        if self.trace.empty:
            parts.append(f"{self.trace.empty:,} rows without prompt or answer left out")
        if self.trace.outside:
            parts.append(f"{self.trace.outside:,} rows outside the cut left out")
        if self.trace.unordered:
            parts.append(f"{self.trace.unordered:,} rows put in the order of time")
        return ", ".join(parts)


def fit_trace(trace: Trace, limit_tokens: int, mean_tokens: int | None = None) -> Fit:
    """Scale all lengths by one factor: the largest, 1 at most, with which requests fit.

    All but a hundredth then have at most `limit_tokens`, prompt and answer together, and
    on average at most `mean_tokens`, if that is given.
    """
    totals = np.array([one.prompt_tokens + one.output_tokens for one in trace.requests])
    long = float(np.quantile(totals, 1 - _SHORTENED_SHARE))
    factor = min(1.0, limit_tokens / long)
    if mean_tokens is not None:
        factor = min(factor, mean_tokens / float(totals.mean()))
    block_tokens = max(1, round(trace.block_tokens * factor))
    asks = []
    lengthened = shortened = 0
    for seed, one in enumerate(trace.requests):
        output = max(1, round(one.output_tokens * factor))
        prompt, last = _prompt(one, factor, trace.block_tokens, block_tokens)
        if prompt < LEAST_PROMPT_TOKENS:
            lengthened += 1
            prompt = LEAST_PROMPT_TOKENS
        if prompt + output > limit_tokens:
            shortened += 1
            output = min(output, max(limit_tokens // 2, limit_tokens - prompt))
            prompt = min(prompt, limit_tokens - output)
        asks.append(Ask(prompt, output, seed, _prefixes(one.blocks, block_tokens, last)))
    times_s = tuple(one.at_s for one in trace.requests)
    return Fit(trace, times_s, tuple(asks), limit_tokens, factor, lengthened, shortened)


def _prompt(
    one: TraceRequest, factor: float, whole_tokens: int, block_tokens: int
) -> tuple[int, int]:
    """Tokens of the scaled prompt, and of its last block."""
    if not one.blocks:
        return round(one.prompt_tokens * factor), 0
    # By blocks, or two prompts that share all of them would differ by rounding.
    before = len(one.blocks) - 1
    rest = one.prompt_tokens - before * whole_tokens
    last = min(max(1, round(rest * factor)), block_tokens)
    return before * block_tokens + last, last


def _prefixes(blocks: tuple[int, ...], block_tokens: int, last: int) -> tuple[Prefix, ...]:
    sizes = [block_tokens] * (len(blocks) - 1) + [last]
    return tuple(Prefix(size, block) for size, block in zip(sizes, blocks, strict=False))


@dataclass(frozen=True, slots=True)
class Replay:
    """An open loop that sends a trace's requests at the trace's times, scaled.

    One factor scales all times, so that the trace on average offers `load` times the capacity
    measured for its lengths. A trial gets a window that begins anywhere in the trace; its own
    load varies as the trace does.
    """

    fit: Fit = field(repr=False)
    load: float

    def __post_init__(self) -> None:
        if not self.load > 0:
            raise ValueError(f"load must be positive, got {self.load:g}")

    def time_factor(self, rate_rps: float) -> float:
        """Seconds of a trial per second of the trace, at `rate_rps` on average."""
        return self.fit.trace.rate_rps / rate_rps

    def stream(
        self, rate_rps: float, duration_s: float, rng: np.random.Generator
    ) -> Iterator[tuple[float, Ask]]:
        """Times in [0, `duration_s`) of a trial, and the requests.

        Raises UserError when the whole trace is shorter than that.
        """
        factor, times_s = self.time_factor(rate_rps), self.fit.times_s
        long_s = duration_s / factor
        if long_s > self.fit.trace.span_s:
            raise UserError(
                f"trace {self.fit.trace.name} lasts {self.fit.trace.span_s * factor:.1f} s at "
                f"{rate_rps:.1f} req/s, a trial takes {duration_s:g} s; give a longer trace"
            )
        start_s = rng.uniform(0.0, self.fit.trace.span_s - long_s)
        first = bisect_left(times_s, start_s)
        for index in range(first, bisect_left(times_s, start_s + long_s)):
            yield (times_s[index] - start_s) * factor, self.fit.asks[index]


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedLengths:
    """The lengths of a fitted trace without its times, to measure the capacity for them."""

    fit: Fit = field(repr=False)

    def draw(self, count: int, rng: np.random.Generator) -> Iterator[Ask]:
        """`count` requests in a row from anywhere in the trace, which repeats after its end."""
        asks = self.fit.asks
        first = int(rng.integers(len(asks)))
        return (asks[(first + index) % len(asks)] for index in range(count))
