"""The times of one request: +inf if it failed, so that an arm which fails is never faster."""

from __future__ import annotations

import itertools
import math

from bench.records import Sample, Slo


def ttft_s(sample: Sample) -> float:
    """First chunk with content − sent."""
    return _span_s(sample, sample.sent_s, sample.first_token_s)


def scheduled_ttft_s(sample: Sample) -> float:
    """First chunk with content − intended arrival: it has the client's lateness in it."""
    return _span_s(sample, sample.scheduled_s, sample.first_token_s)


def e2e_s(sample: Sample) -> float:
    """Last chunk with content − sent."""
    return _span_s(sample, sample.sent_s, sample.last_token_s)


def scheduled_e2e_s(sample: Sample) -> float:
    """Last chunk with content − intended arrival."""
    return _span_s(sample, sample.scheduled_s, sample.last_token_s)


def tpot_s(sample: Sample) -> float | None:
    """(E2E − TTFT) / (output tokens − 1); None for fewer than two tokens.

    The count is the server's; for a failed request it is the number that was asked for.
    """
    tokens = sample.output_tokens if sample.ok else sample.wanted_output_tokens
    if tokens is None or tokens < 2:
        return None
    return _span_s(sample, sample.first_token_s, sample.last_token_s) / (tokens - 1)


def gaps_s(sample: Sample) -> tuple[float, ...]:
    """Gaps between content chunks; those that a failed answer lacks are +inf, one at least.

    Without them an arm that breaks off its slow answers would lose its slow gaps.
    """
    gaps = [after - before for before, after in itertools.pairwise(sample.chunk_s)]
    if not sample.ok:
        gaps += [math.inf] * max(1, sample.wanted_output_tokens - 1 - len(gaps))
    return tuple(gaps)


def meets(sample: Sample, slo: Slo) -> bool:
    """Whether the request met every objective that is set, counted from its schedule.

    An answer of one token has no TPOT to miss; one without a token count misses it.
    """
    if not sample.ok:
        return False
    return (
        _within(scheduled_ttft_s(sample), slo.ttft_s)
        and _within(scheduled_e2e_s(sample), slo.e2e_s)
        and (sample.output_tokens is not None or slo.tpot_s is None)
        and _within(tpot_s(sample) or 0.0, slo.tpot_s)
    )


def has_objective(slo: Slo) -> bool:
    """Whether any objective is set."""
    return any(objective is not None for objective in (slo.ttft_s, slo.tpot_s, slo.e2e_s))


def _span_s(sample: Sample, start_s: float | None, end_s: float | None) -> float:
    if not sample.ok or start_s is None or end_s is None:
        return math.inf
    return end_s - start_s


def _within(seen_s: float, objective_s: float | None) -> bool:
    return objective_s is None or seen_s <= objective_s
