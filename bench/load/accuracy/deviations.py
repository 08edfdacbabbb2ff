"""How far what the client saw is from what the source tells: pure functions.

Only spans are compared, each taken on one side, on a clock that all processes share. A
span of the client begins before the request has left it and ends after a chunk has come, so
that TTFT and E2E come out too long by the way there, the source's waking up, and the way
back. ITL is off by the difference of two ways back, either way.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.percentile import percentile
from bench.analysis.timings import e2e_s, gaps_s, ttft_s
from bench.errors import UserError
from bench.records import Sample, Spread


@dataclass(frozen=True, slots=True)
class Told:
    """What the source says of one request: when it had arrived, when each chunk was sent."""

    arrived_s: float
    chunk_s: tuple[float, ...]


def require_whole(sample: Sample, told: Told | None) -> Told:
    """What was told of `sample`. Raises UserError unless client and source saw the same."""
    if not sample.ok:
        raise UserError(f"request {sample.index} failed: {sample.error} ({sample.detail})")
    sent = len(told.chunk_s) if told else 0
    if told is None or sent != len(sample.chunk_s):
        raise UserError(
            f"request {sample.index} has {len(sample.chunk_s)} chunks of the {sent} that the"
            " source sent: the client cannot be trusted"
        )
    return told


def ttft_error_s(sample: Sample, told: Told) -> float:
    """The client's TTFT − from the request's arrival to the first chunk at the source."""
    return ttft_s(sample) - (told.chunk_s[0] - told.arrived_s)


def e2e_error_s(sample: Sample, told: Told) -> float:
    """The client's E2E − from the request's arrival to the last chunk at the source."""
    return e2e_s(sample) - (told.chunk_s[-1] - told.arrived_s)


def itl_errors_s(sample: Sample, told: Told) -> tuple[float, ...]:
    """Each gap between chunks at the client − the same gap at the source."""
    gaps = itertools.pairwise(told.chunk_s)
    return tuple(
        seen_s - (after_s - before_s)
        for seen_s, (before_s, after_s) in zip(gaps_s(sample), gaps, strict=True)
    )


def late_s(told: Told, first_s: float, every_s: float) -> tuple[float, ...]:
    """How late the source itself sent each chunk that was due every `every_s`."""
    return tuple(
        sent_s - (told.arrived_s + first_s + index * every_s)
        for index, sent_s in enumerate(told.chunk_s)
    )


def spread(values_s: Sequence[float]) -> Spread:
    """The spread of some values. Raises ValueError when there are none."""
    found = [percentile(values_s, percent) for percent in (50, 95, 99)]
    p50_s, p95_s, p99_s = (value for value in found if value is not None)
    return Spread(p50_s, p95_s, p99_s, max(values_s), len(values_s))
