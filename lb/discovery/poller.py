"""Polls every replica for its health, the models that it serves and the length of its queue."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from typing import Any

import orjson

from lb.discovery.engine_metrics import cached_tokens, compile_series, samples
from lb.http.upstream.client import Upstream
from lb.http.upstream.errors import (
    BadAnswerError,
    ConnectFailedError,
    OutOfDescriptorsError,
    UpstreamError,
)
from lb.replicas.fleet import Fleet
from lb.replicas.replica import EngineGauges, Replica

logger = logging.getLogger("lb")

# An engine that shares a core with its API server may be this slow and healthy.
_TIMEOUT_S = 5.0
_FIRST_ROUND_S = 1.0
# A larger answer would delay everything else: vLLM's metrics have 56 KB for each engine.
_MAX_BYTES = 2 * 1024 * 1024
# Failures in a row that make a replica unhealthy; one is enough if it does not accept connections
# or is asleep.
_FALL = 2
# Most servers do not have /is_sleeping, and log each request for it: they are asked less often.
_ASK_AGAIN_S = 60.0
_SLEEP_TIMEOUT_S = 0.5
_ASLEEP = "is asleep, as /is_sleeping says"
_NO_KEY = ", give its key with --upstream-api-key-file"
# A server without /health is healthy when it lists its models.
_NO_SUCH_ROUTE = frozenset({404, 405})

_WAITING = "vllm:num_requests_waiting"
_RUNNING = "vllm:num_requests_running"
_GENERATED = "vllm:generation_tokens_total"
_SERIES = compile_series((_WAITING, _RUNNING, _GENERATED))


@dataclass(slots=True)
class _Polls:
    """The polls of one replica; `failures` in a row up to now."""

    task: asyncio.Task[None] = field(init=False)
    first: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    ask_sleeping_s: float = -math.inf


class Poller:
    """A context in which each replica of a fleet is polled by a task of its own.

    A replica is healthy if /health answers 200, /v1/models lists models, and /is_sleeping does not
    say that it sleeps: vLLM lists its models even when its engine has died, and /health is fine
    while it sleeps. Missing metrics do not make a replica unhealthy. A poll for which this
    process has no descriptor left changes nothing.
    """

    def __init__(self, fleet: Fleet, upstream: Upstream, interval_s: float, rng: Random) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._interval_s = interval_s
        self._rng = rng
        self._polls: dict[Replica, _Polls] = {}
        self._starting = True

    async def __aenter__(self) -> Poller:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [polls.task for polls in self._polls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def follow(self) -> None:
        """Poll the replicas that are in the fleet now, without draining ones."""
        wanted = {replica for replica in self._fleet.replicas if not replica.draining}
        for replica in self._polls.keys() - wanted:
            self._polls.pop(replica).task.cancel()
        for replica in wanted - self._polls.keys():
            self._polls[replica] = polls = _Polls()
            polls.task = asyncio.create_task(self._poll_forever(replica, polls))

    async def first_round(self) -> None:
        """Wait up to a second for the first answers. Replicas that answer get no slow start."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_ROUND_S):
                for polls in tuple(self._polls.values()):
                    await polls.first.wait()
        self._starting = False

    async def _poll_forever(self, replica: Replica, polls: _Polls) -> None:
        while True:
            await self._poll(replica, polls)
            polls.first.set()
            # Jitter: several balancers must not poll at the same moments.
            await asyncio.sleep(self._interval_s * self._rng.uniform(0.9, 1.1))

    async def _poll(self, replica: Replica, polls: _Polls) -> None:
        before = replica.healthy, replica.models
        try:
            entries = await self._check(replica, polls)
        except OutOfDescriptorsError as error:
            logger.warning("replica %s cannot be polled: %s", replica.name, error)
        except UpstreamError as error:
            polls.failures += 1
            at_once = isinstance(error, ConnectFailedError | _AsleepError)
            if at_once or polls.failures >= _FALL:
                hint = _NO_KEY if getattr(error, "status", 0) == HTTPStatus.UNAUTHORIZED else ""
                replica.mark_unhealthy(f"{error}{hint}")
                if not isinstance(error, _AsleepError):
                    # The next server at this address may be another one.
                    polls.ask_sleeping_s = -math.inf
        else:
            polls.failures = 0
            replica.mark_healthy(entries, -math.inf if self._starting else time.monotonic())
            self._fleet.refresh(time.monotonic())
            in_flight = replica.in_flight
            gauges = await self._gauges(replica)
            self._fleet.refresh(time.monotonic())
            replica.observe(gauges, in_flight, time.monotonic())
        if (replica.healthy, replica.models) != before:
            self._fleet.changed(replica)
        else:
            self._fleet.on_change(replica)

    async def _check(self, replica: Replica, polls: _Polls) -> Mapping[str, Any]:
        """Its entries in /v1/models, by name. Raises UpstreamError unless it is healthy."""
        try:
            await self._get(replica, "/health")
        except BadAnswerError as error:
            if error.status not in _NO_SUCH_ROUTE:
                raise
        entries = _models(await self._get(replica, "/v1/models"))
        if time.monotonic() >= polls.ask_sleeping_s and await self._sleeps(replica, polls):
            raise _AsleepError(_ASLEEP)
        return entries

    async def _sleeps(self, replica: Replica, polls: _Polls) -> bool:
        """Whether it is asleep. If it does not answer at all, the last answer holds."""
        try:
            body = await self._get(replica, "/is_sleeping", _SLEEP_TIMEOUT_S)
            asleep = orjson.loads(body)["is_sleeping"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            asleep = None
        except UpstreamError as error:
            knows = not 300 <= getattr(error, "status", 0) < 500
            asleep = replica.unhealthy_reason == _ASLEEP if knows else None
        if not isinstance(asleep, bool):
            polls.ask_sleeping_s = time.monotonic() + _ASK_AGAIN_S
        return asleep is True

    async def _gauges(self, replica: Replica) -> EngineGauges | None:
        try:
            return parse_gauges(await self._get(replica, "/metrics"), replica.models)
        except UpstreamError as error:
            if not getattr(error, "status", 0):  # with a status it has no metrics: fine
                logger.warning("metrics of replica %s are missing: it %s", replica.name, error)
            return None

    async def _get(self, replica: Replica, path: str, timeout_s: float = _TIMEOUT_S) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._upstream.get(replica.endpoint, path, _MAX_BYTES)
        except TimeoutError:
            raise BadAnswerError(f"did not answer {path} within {timeout_s:g} s") from None


class _AsleepError(BadAnswerError):
    """It is asleep: it answers no requests until it is woken up."""


def parse_gauges(text: bytes, models: Collection[str]) -> EngineGauges | None:
    """The gauges of `models`, summed over engines (data parallelism).

    None if `text` has no finite `vllm:num_requests_waiting` of at least 0 for them.
    """
    sums: dict[str, float] = {}
    for name, value in samples(_SERIES, text, models):
        sums[name] = sums.get(name, 0.0) + value
    if _WAITING not in sums:
        return None
    running, generated = sums.get(_RUNNING, 0.0), sums.get(_GENERATED, 0.0)
    return EngineGauges(sums[_WAITING], running, generated, cached_tokens(text))


def _models(body: bytes) -> Mapping[str, Any]:
    """The entries of a list of models, by name. Raises BadAnswerError."""
    try:
        models = {str(entry["id"]): entry for entry in orjson.loads(body)["data"]}
    except (orjson.JSONDecodeError, LookupError, TypeError):
        models = {}
    if not models:
        raise BadAnswerError("answered /v1/models without a list of models")
    return models
