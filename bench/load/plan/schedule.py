"""Seeded schedules: the same arguments give the same requests and hash on every machine."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from bench.errors import UserError
from bench.load.plan.arrivals import OfModels, OpenLoop, Steps
from bench.load.plan.workload import Ask, Asks
from bench.records import PlannedRequest, Schedule

_MICROSECONDS = 1_000_000

# Times in [0, duration_s) and requests of a model, from its rate, `duration_s` and a generator.
Stream = Callable[[float, float, np.random.Generator], Iterable[tuple[float, Ask]]]


def plan_open_loop(
    *,
    seed: int,
    rates_rps: Mapping[str, float],
    workload: Asks,
    arrival: OpenLoop | OfModels,
    duration_s: float,
) -> Schedule:
    """Requests at their own times, for each model at its rate in `rates_rps`.

    Every model has its own stream, so that adding a model does not change the requests of the
    others; but where arrivals differ from model to model, that depends on the order of `rates_rps`.
    `offered_rps` is the sum of the rates. Raises UserError when a rate or the duration is not
    positive or nothing would be sent.
    """

    models = len(rates_rps)
    streams = [
        partial(
            _stream, arrival.of(n, models) if isinstance(arrival, OfModels) else arrival, workload
        )
        for n in range(models)
    ]
    planned = _streams(seed, rates_rps, streams, duration_s)
    return _schedule(planned, duration_s, sum(rates_rps.values()), None)


class Traffic(Protocol):
    """Times and contents of requests, drawn together."""

    @property
    def load(self) -> float:
        """Offered load as a share of measured capacity."""
        ...

    def stream(
        self, rate_rps: float, duration_s: float, rng: np.random.Generator, /
    ) -> Iterable[tuple[float, Ask]]:
        """Times in [0, duration_s) and requests, `rate_rps` of them on average."""
        ...


def plan_traffic(
    *, seed: int, rates_rps: Mapping[str, float], traffic: Traffic, duration_s: float
) -> Schedule:
    """`traffic` for each model, at the rate in `rates_rps` on average.

    `offered_rps` is the rate of this draw. Raises UserError as `plan_open_loop` does.
    """
    streams = [traffic.stream] * len(rates_rps)
    planned = _streams(seed, rates_rps, streams, duration_s)
    return _schedule(planned, duration_s, len(planned) / duration_s, None)


def plan_closed_loop(
    *,
    seed: int,
    models: Sequence[str],
    workload: Asks,
    concurrency: int,
    duration_s: float,
    count: int,
) -> Schedule:
    """An ordered list of `count` requests, the models in turn, for a closed loop.

    `count` is an upper bound of what the system can serve in `duration_s`. No request is sent
    twice, since a repeated prompt would be answered from the prefix cache; a list that runs
    out ends the trial early and marks it cut short.
    """
    _check(models, duration_s)
    if not 1 <= concurrency <= count:
        raise UserError(f"concurrency is {concurrency} for {count} requests; give 1 to {count}")
    per_model = -(-count // len(models))
    streams = [
        _requests(model, ((0.0, ask) for ask in workload.draw(per_model, _generator(seed, model))))
        for model in models
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
    process: OpenLoop | Steps,
    workload: Asks,
    rate_rps: float,
    duration_s: float,
    rng: np.random.Generator,
) -> Iterator[tuple[float, Ask]]:
    times_s = process.times(rate_rps, duration_s, rng).tolist()
    return zip(times_s, workload.draw(len(times_s), rng), strict=True)


def _streams(
    seed: int,
    rates_rps: Mapping[str, float],
    streams: Sequence[Stream],
    duration_s: float,
) -> list[PlannedRequest]:
    """The models' independent `streams`, in the order of `rates_rps`, as one, in that of time."""
    _check(rates_rps, duration_s)
    for model, rate_rps in rates_rps.items():
        if not rate_rps > 0:
            raise UserError(f"rate of {model} is {rate_rps:g} req/s; give a positive one")
    planned = [
        request
        for (model, rate_rps), stream in zip(rates_rps.items(), streams, strict=True)
        for request in _requests(model, stream(rate_rps, duration_s, _generator(seed, model)))
    ]
    if not planned:
        raise UserError(
            f"no request falls into {duration_s:g} s at {sum(rates_rps.values()):g} req/s; "
            "offer more or longer"
        )
    return sorted(planned, key=lambda request: (request.at_s, request.model))


def _requests(model: str, asked: Iterable[tuple[float, Ask]]) -> Iterator[PlannedRequest]:
    """Requests of one model; `index` is set when streams have been merged."""
    for at_s, ask in asked:
        # Whole microseconds: the last bits of a logarithm differ between machines.
        at_us = math.floor(at_s * _MICROSECONDS)
        yield PlannedRequest(
            0,
            at_us / _MICROSECONDS,
            model,
            ask.prompt_tokens,
            ask.output_tokens,
            ask.prompt_seed,
            ask.prefixes,
            ask.tenant,
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
                *(part for one in request.prefixes for part in (one.tokens, one.seed)),
                *([request.tenant] if request.tenant else []),
            ]
            for request in requests
        ],
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
