"""Metrics of requests and tokens per second, or as a share of all attempted.

They are functions of (samples, duration_s, slos by model). Rates count what was complete inside
the offered window of `duration_s`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from bench.analysis.timings import has_objective, meets
from bench.records import Sample, Slo, Trial, slo_key

Slos = Mapping[str, Slo]

# An output token costs about as much as two of a prompt.
_ANSWER_WEIGHT = 2
# Two loads are neighbours where their factor is the step of the search, but for rounding.
_ROUNDING = 1.001


def throughput_rps(samples: Sequence[Sample], duration_s: float, _slos: Slos) -> float | None:
    """Requests answered in full, per second."""
    return _rate(samples, duration_s, lambda sample: sample.ok)


def goodput_rps(samples: Sequence[Sample], duration_s: float, slos: Slos) -> float | None:
    """Requests that met every objective, per second; None when no objective is set."""
    if not any(map(has_objective, slos.values())):
        return None
    return _rate(samples, duration_s, lambda sample: meets(sample, slo_of(sample, slos)))


def output_tps(samples: Sequence[Sample], duration_s: float, _slos: Slos) -> float | None:
    """Output tokens of successful requests, per second; those of one are spread over its chunks."""
    answered = [sample for sample in samples if sample.ok]
    counted = [sample for sample in answered if sample.output_tokens is not None]
    if not samples or duration_s <= 0 or (answered and not counted):
        return None
    return sum(_tokens_until(sample, duration_s) for sample in counted) / duration_s


def slo_attainment(samples: Sequence[Sample], _duration_s: float, slos: Slos) -> float | None:
    """Requests that met every objective / all attempted; None when none is set."""
    if not any(map(has_objective, slos.values())):
        return None
    return _share(samples, lambda sample: meets(sample, slo_of(sample, slos)))


def fairness(samples: Sequence[Sample], duration_s: float, slos: Slos) -> float | None:
    """Jain's index of the tenants' attainments: 1 if all are equal, 1/n if one tenant has all.

    None without tenants or objectives, or where no request met any. Jain, Chiu and Hawe, "A
    quantitative measure of fairness and discrimination" (1984).
    """
    shares = [slo_attainment(own, duration_s, slos) for own in _by_tenant(samples)]
    return jains_index([share for share in shares if share is not None])


def service_fairness(samples: Sequence[Sample], duration_s: float, _slos: Slos) -> float | None:
    """Jain's index of the service that tenants got / their max-min fair share of all service.

    1 if each got all that it asked for, or as much as any other. Service are tokens until
    `duration_s`, prompts once and answers twice, as in Sheng et al., "Fairness in serving large
    language models" (2024). None without tenants, or where nothing was served.
    """
    tenants = _by_tenant(samples)
    got = [sum(_service(one, duration_s) for one in own) for own in tenants]
    asked = [
        sum(one.wanted_prompt_tokens + _ANSWER_WEIGHT * one.wanted_output_tokens for one in own)
        for own in tenants
    ]
    fair = max_min_shares(asked, sum(got))
    return jains_index([mine / share for mine, share in zip(got, fair, strict=True) if share])


def jains_index(values: Sequence[float]) -> float | None:
    """(Sum of values)² / (n x sum of their squares); None of fewer than two, or if all are 0."""
    squares = sum(value**2 for value in values)
    return sum(values) ** 2 / (len(values) * squares) if len(values) > 1 and squares else None


def max_min_shares(asked: Sequence[float], total: float) -> list[float]:
    """`total` shared out: nobody gets more than it asked for, and the rest is shared equally."""
    shares = [0.0] * len(asked)
    for done, index in enumerate(sorted(range(len(asked)), key=asked.__getitem__)):
        rest = max(0.0, total - sum(shares))
        shares[index] = min(asked[index], rest / (len(asked) - done))
    return shares


def _by_tenant(samples: Sequence[Sample]) -> list[list[Sample]]:
    by_tenant: dict[str, list[Sample]] = {}
    for sample in samples:
        by_tenant.setdefault(sample.tenant, []).append(sample)
    return list(by_tenant.values())


def _service(sample: Sample, end_s: float) -> float:
    if not sample.ok or sample.first_token_s is None or sample.first_token_s > end_s:
        return 0.0
    return sample.wanted_prompt_tokens + _ANSWER_WEIGHT * _tokens_until(sample, end_s)


def slo_of(sample: Sample, slos: Slos) -> Slo:
    """The objectives of a request: its tenant's where that has its own, else its model's."""
    return slos.get(slo_key(sample.model, sample.tenant)) or slos[sample.model]


def error_rate(samples: Sequence[Sample], _duration_s: float, _slos: Slos) -> float | None:
    """Failed requests / all attempted."""
    return _share(samples, lambda sample: not sample.ok)


def _rate(
    samples: Sequence[Sample], duration_s: float, counts: Callable[[Sample], bool]
) -> float | None:
    if not samples or duration_s <= 0:
        return None
    ended = [
        one for one in samples if one.last_token_s is not None and one.last_token_s <= duration_s
    ]
    return sum(map(counts, ended)) / duration_s


def _share(samples: Sequence[Sample], counts: Callable[[Sample], bool]) -> float | None:
    return sum(map(counts, samples)) / len(samples) if samples else None


def _tokens_until(sample: Sample, end_s: float) -> float:
    if sample.output_tokens is None or not sample.chunk_s:
        return 0.0
    share = sum(chunk_s <= end_s for chunk_s in sample.chunk_s) / len(sample.chunk_s)
    return sample.output_tokens * share


def attainment(trial: Trial) -> float:
    """Requests of a trial that met every objective / all attempted; 0 of none."""
    return slo_attainment(trial.samples, trial.duration_s, trial.scenario.slos) or 0.0


def target(trial: Trial) -> float:
    """The share of requests that must meet its objectives: the highest over the models."""
    return max(slo.attainment for slo in trial.scenario.slos.values())


def is_carried(trial: Trial) -> bool:
    """Whether the arm met its objectives at the trial's load."""
    return attainment(trial) >= target(trial)


def carried_rps(trials: Sequence[Trial]) -> float | None:
    """Requests per second at which attainment falls to the target; None if that is not known.

    It lies between the highest load that was carried and the next one, which was not, and is
    interpolated over the logarithm of the load.
    """
    attained = {trial.offered_rps: attainment(trial) for trial in trials if trial.offered_rps}
    if not attained:
        return None
    wanted = target(trials[0])
    low = max((load for load, share in attained.items() if share >= wanted), default=None)
    high = min((load for load, share in attained.items() if share < wanted), default=None)
    step = trials[0].scenario.search_step
    if low is None or high is None or step is None or not low < high <= low * step * _ROUNDING:
        return None
    part = (attained[low] - wanted) / (attained[low] - attained[high])
    return math.exp(math.log(low) + part * math.log(high / low))
