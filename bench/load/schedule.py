"""Seeded schedules: the same arguments give the same requests and hash on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError
from bench.load.arrivals import OpenLoop
from bench.load.workload import Workload
from bench.records import PlannedRequest, Schedule

_MICROSECONDS = 1_000_000
# Seeds that every reader of JSON keeps exact.
_SEED_BOUND = 2**53


def plan_open_loop(
    *,
    seed: int,
    rates_rps: Mapping[str, float],
    workload: Workload,
    arrival: OpenLoop,
    duration_s: float,
) -> Schedule:
    """Requests at their own times, for each model at its rate in `rates_rps`.

    Every model has an independent stream, so that adding one leaves the requests
    of the others as they were. `offered_rps` is the sum of the rates. Raises
    UserError when a rate or the duration is not positive or nothing would be sent.
    """
    _check(rates_rps, duration_s)
    for model, rate_rps in rates_rps.items():
        if not rate_rps > 0:
            raise UserError(f"rate of {model} is {rate_rps:g} req/s; give a positive one")
    planned = [
        request
        for model, rate_rps in rates_rps.items()
        for request in _stream(model, seed, workload, arrival, rate_rps, duration_s)
    ]
    offered_rps = sum(rates_rps.values())
    if not planned:
        raise UserError(
            f"no request falls into {duration_s:g} s at {offered_rps:g} req/s; offer more or longer"
        )
    planned.sort(key=lambda request: (request.at_s, request.model))
    return _schedule(planned, duration_s, offered_rps, None)


def plan_closed_loop(
    *,
    seed: int,
    models: Sequence[str],
    workload: Workload,
    concurrency: int,
    duration_s: float,
    count: int,
) -> Schedule:
    """An ordered list of `count` requests, the models in turn, for a closed loop.

    `count` is the caller's upper bound on what the system can serve in
    `duration_s`. Requests are never sent twice, since a repeated prompt would be
    answered from the prefix cache; a list that runs out ends the trial early and
    marks it cut short.
    """
    _check(models, duration_s)
    if not 1 <= concurrency <= count:
        raise UserError(f"concurrency is {concurrency} for {count} requests; give 1 to {count}")
    per_model = -(-count // len(models))
    streams = [
        _requests(model, np.zeros(per_model), workload, _generator(seed, model)) for model in models
    ]
    in_turn = [request for turn in zip(*streams, strict=True) for request in turn]
    return _schedule(in_turn[:count], duration_s, None, concurrency)


def _check(models: Sequence[str] | Mapping[str, float], duration_s: float) -> None:
    if not models:
        raise UserError("no model to send to; name at least one")
    if not duration_s > 0:
        raise UserError(f"duration is {duration_s:g} s; give a positive one")


def _generator(seed: int, model: str) -> np.random.Generator:
    name = int.from_bytes(hashlib.sha256(model.encode()).digest()[:8])
    return np.random.default_rng([seed, name])


def _stream(
    model: str, seed: int, workload: Workload, arrival: OpenLoop, rate_rps: float, duration_s: float
) -> Iterator[PlannedRequest]:
    rng = _generator(seed, model)
    return _requests(model, arrival.times(rate_rps, duration_s, rng), workload, rng)


def _requests(
    model: str, times_s: NDArray[np.float64], workload: Workload, rng: np.random.Generator
) -> Iterator[PlannedRequest]:
    """Requests of one model; `index` is set when streams have been merged."""
    count = len(times_s)
    columns = zip(
        # Whole microseconds: the last bits of a logarithm differ between machines.
        np.floor(times_s * _MICROSECONDS).tolist(),
        workload.prompt.sample(count, rng).tolist(),
        workload.output.sample(count, rng).tolist(),
        rng.integers(_SEED_BOUND, size=count).tolist(),
        workload.prefixes.sample(count, rng) if workload.prefixes else [None] * count,
        strict=True,
    )
    for at_us, own_tokens, output_tokens, prompt_seed, prefix in columns:
        prompt_tokens = own_tokens + (prefix.tokens if prefix else 0)
        yield PlannedRequest(
            0, at_us / _MICROSECONDS, model, prompt_tokens, output_tokens, prompt_seed, prefix
        )


def _schedule(
    planned: Sequence[PlannedRequest],
    duration_s: float,
    offered_rps: float | None,
    concurrency: int | None,
) -> Schedule:
    requests = tuple(replace(request, index=index) for index, request in enumerate(planned))
    return Schedule(
        requests=requests,
        duration_s=duration_s,
        offered_rps=offered_rps,
        concurrency=concurrency,
        sha256=_sha256(requests, duration_s, concurrency),
    )


def _sha256(requests: Sequence[PlannedRequest], duration_s: float, concurrency: int | None) -> str:
    """Hash of everything that decides what is sent and when, as canonical JSON."""
    content = {
        "concurrency": concurrency,
        "duration_us": round(duration_s * _MICROSECONDS),
        "requests": [
            [
                round(request.at_s * _MICROSECONDS),
                request.model,
                request.prompt_tokens,
                request.output_tokens,
                request.prompt_seed,
                *([request.prefix.tokens, request.prefix.seed] if request.prefix else []),
            ]
            for request in requests
        ],
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
