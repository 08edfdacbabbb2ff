"""What requests ask for: lengths of prompts and answers in tokens, and shared prefixes.

Everything that varies from request to request is drawn stratified: see `stratified`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.records import Prefix

Lengths = NDArray[np.int64]

# Seeds that every reader of JSON keeps exact.
SEED_BOUND = 2**53
# Chat templates take up to forty tokens of a prompt; the rest is its text.
LEAST_PROMPT_TOKENS = 64
# Draws are stratified in runs of so many: as fine as shares of requests are usually given.
RUN = 20
# So many requests have the mean of a workload, since they are stratified.
_FITTED_ASKS = 1000


def stratified(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`count` uniform values in [0, 1), spread evenly, in random order.

    One value falls into each `count`-th of [0, 1), and of every `RUN` in a row one into each
    `RUN`-th. With independent draws the work of a short trial, and of each second in it,
    varies by tens of percent, and near saturation that decides more about latencies than
    either arm does. A closed loop sends only the beginning of what was planned: the beginning
    is as representative as the whole.
    """
    strata = np.arange(count)
    parts = strata * RUN // max(count, 1)
    by_part = np.lexsort((rng.random(count), parts))
    # The n-th of each part belongs to the n-th run; the last run may lack some parts.
    run = strata - np.searchsorted(parts, parts)
    order = by_part[np.lexsort((rng.random(count), run))]
    drawn = (order + rng.random(count)) / max(count, 1)
    # the sum may round up to the next integer
    return np.minimum(drawn, np.nextafter(1.0, 0.0))


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request asks for; see `PlannedRequest`."""

    prompt_tokens: int
    output_tokens: int
    prompt_seed: int
    prefixes: tuple[Prefix, ...] = ()
    tenant: str = ""


class Asks(Protocol):
    """Where a scenario's requests come from, whenever they are sent. Hashable."""

    def draw(self, count: int, rng: np.random.Generator, /) -> Iterable[Ask]:
        """What `count` requests ask for, in their order."""
        ...


class Distribution(Protocol):
    """Lengths in tokens, at least 1."""

    def sample(self, count: int, rng: np.random.Generator, /) -> Lengths:
        """`count` lengths, stratified."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always `tokens`."""

    tokens: int

    def __post_init__(self) -> None:
        _require_ascending(1, self.tokens)

    def sample(self, count: int, _rng: np.random.Generator) -> Lengths:
        return np.full(count, self.tokens, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every length from `low` to `high`, both included, alike."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _require_ascending(1, self.low, self.high)

    def sample(self, count: int, rng: np.random.Generator) -> Lengths:
        drawn = self.low + stratified(count, rng) * (self.high - self.low + 1)
        return np.floor(drawn).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Bimodal:
    """Heavy tail in its plainest form: a share `long_share` is `long`, the rest `short`."""

    short: int
    long: int
    long_share: float

    def __post_init__(self) -> None:
        _require_ascending(1, self.short, self.long)
        if not 0.0 <= self.long_share <= 1.0:
            raise ValueError(f"long_share must be in [0, 1], got {self.long_share:g}")

    def sample(self, count: int, rng: np.random.Generator) -> Lengths:
        return np.where(stratified(count, rng) < self.long_share, self.long, self.short)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Heavy tail as seen in chat traffic: exp(Normal(ln median, sigma)), rounded.

    Values outside [`low`, `high`] become the bound itself, as a limit on answer
    length does it.
    """

    median: float
    sigma: float
    low: int
    high: int

    def __post_init__(self) -> None:
        _require_ascending(1, self.low, self.high)
        if not (self.median > 0 and self.sigma > 0):
            raise ValueError(
                f"median and sigma must be positive, got {self.median:g} and {self.sigma:g}"
            )

    def sample(self, count: int, rng: np.random.Generator) -> Lengths:
        normal = NormalDist(math.log(self.median), self.sigma)
        # Away from 0 and 1, where the inverse has no value.
        shares = np.clip(stratified(count, rng), 1e-9, 1 - 1e-9)
        drawn = np.exp([normal.inv_cdf(share) for share in shares.tolist()])
        return np.clip(np.rint(drawn), self.low, self.high).astype(np.int64)


@dataclass(frozen=True, slots=True)
class SharedPrefixes:
    """`count` beginnings of `tokens` each that prompts have in common, like system prompts.

    Some are popular: by Zipf's law the n-th is asked for in proportion to 1/n.
    """

    count: int
    tokens: int

    def __post_init__(self) -> None:
        if self.count < 1 or self.tokens < 1:
            raise ValueError(
                f"count and tokens must be at least 1, got {self.count} and {self.tokens}"
            )

    def sample(self, count: int, rng: np.random.Generator) -> list[Prefix]:
        """The prefix of each of `count` requests."""
        shares = np.cumsum(1.0 / np.arange(1, self.count + 1))
        ranks = np.searchsorted(shares[:-1] / shares[-1], stratified(count, rng), side="right")
        return [Prefix(self.tokens, rank) for rank in ranks.tolist()]


@dataclass(frozen=True, slots=True)
class Workload:
    """What one request asks for: prompt length, chat template included, and answer length.

    With `prefixes`, each prompt begins with one of them, and `prompt` is the rest.
    """

    prompt: Distribution
    output: Distribution
    prefixes: SharedPrefixes | None = None

    def draw(self, count: int, rng: np.random.Generator) -> Iterator[Ask]:
        columns = zip(
            self.prompt.sample(count, rng).tolist(),
            self.output.sample(count, rng).tolist(),
            rng.integers(SEED_BOUND, size=count).tolist(),
            self.prefixes.sample(count, rng) if self.prefixes else [None] * count,
            strict=True,
        )
        for own_tokens, output_tokens, seed, prefix in columns:
            if prefix is None:
                yield Ask(own_tokens, output_tokens, seed)
            else:
                yield Ask(own_tokens + prefix.tokens, output_tokens, seed, (prefix,))


@dataclass(frozen=True, slots=True)
class Scaled:
    """A workload as GPUs serve it, without prefixes; smaller engines get its lengths x `factor`.

    Requests have at most `limit_tokens`, if that is given: they are cut to it.
    """

    workload: Workload
    factor: float = 1.0
    limit_tokens: int | None = None

    def fitted(self, limit_tokens: int, mean_tokens: int | None = None) -> Scaled:
        """The same with the largest factor, 1 at most, with which requests fit.

        They have at most `limit_tokens`, prompt and answer together, and on average at most
        `mean_tokens`, if that is given.
        """
        asks = self.workload.draw(_FITTED_ASKS, np.random.default_rng(0))
        totals = [ask.prompt_tokens + ask.output_tokens for ask in asks]
        factor = min(1.0, limit_tokens / max(totals))
        if mean_tokens is not None:
            factor = min(factor, mean_tokens / fmean(totals))
        return replace(self, factor=factor, limit_tokens=limit_tokens)

    def draw(self, count: int, rng: np.random.Generator) -> Iterator[Ask]:
        for ask in self.workload.draw(count, rng):
            prompt = max(LEAST_PROMPT_TOKENS, round(ask.prompt_tokens * self.factor))
            output = round(ask.output_tokens * self.factor)
            if self.limit_tokens is not None:
                prompt = min(prompt, self.limit_tokens - 1)
                output = min(output, self.limit_tokens - prompt)
            yield replace(ask, prompt_tokens=prompt, output_tokens=max(1, output))


def _require_ascending(*tokens: int) -> None:
    if list(tokens) != sorted(tokens):
        raise ValueError(f"lengths must be at least 1 and ascending, got {tokens[1:]}")
