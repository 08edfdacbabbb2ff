"""A trace's lengths, scaled to what an engine holds: one factor for all keeps their shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.load.traces.trace import Trace, TraceRequest
from bench.load.workload import Ask
from bench.records import Prefix

# Chat templates take up to forty tokens of a prompt, and it has to say something as well.
LEAST_PROMPT_TOKENS = 64
# So many of the longest requests may be shortened: with the factor that fits the very longest,
# all the others would be next to nothing.
_SHORTENED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Fit:
    """A trace as an engine can serve it: when requests come, and what each asks for.

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
        """What was done to it, for people."""
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
    """Scale by the largest factor, 1 at most, by which requests fit.

    All but a hundredth fit into `limit_tokens`, prompt and answer together, and on
    average they have no more than `mean_tokens`, if that is given.
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
    """The scaled prompt, and what of it falls to its last block."""
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
