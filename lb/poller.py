"""Ask every replica, time and again, what it serves and how long its queue is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Any

import orjson

from lb.engine_metrics import EngineGauges, parse_gauges
from lb.replicas import Replica
from lb.upstream import BadAnswerError, Upstream, UpstreamError

# An engine that shares one core with its API server can be this slow and still well.
_TIMEOUT_S = 5.0
_FIRST_ROUND_S = 1.0
_MAX_BYTES = 16 * 1024 * 1024


class Poller:
    """A context in which each replica is polled by a task of its own.

    Entering waits a moment for the first answers. A replica is healthy when it answers
    /v1/models; metrics are extra, and merely missing when they cannot be read.
    """

    def __init__(
        self, replicas: Sequence[Replica], upstream: Upstream, interval_s: float, rng: Random
    ) -> None:
        self._replicas = replicas
        self._upstream = upstream
        self._interval_s = interval_s
        self._rng = rng
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Poller:
        polled = [asyncio.Event() for _ in self._replicas]
        self._tasks = [
            asyncio.create_task(self._poll_forever(replica, event))
            for replica, event in zip(self._replicas, polled, strict=True)
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_ROUND_S):
                for event in polled:
                    await event.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _poll_forever(self, replica: Replica, polled: asyncio.Event) -> None:
        while True:
            await self._poll(replica)
            polled.set()
            # Jitter keeps several balancers from acting on the same reading in step.
            await asyncio.sleep(self._interval_s * self._rng.uniform(0.9, 1.1))

    async def _poll(self, replica: Replica) -> None:
        try:
            replica.mark_healthy(_models(await self._get(replica, "/v1/models")))
        except UpstreamError as error:
            replica.mark_unhealthy(str(error))
            return
        in_flight = replica.in_flight
        replica.observe(await self._gauges(replica), in_flight, time.monotonic())

    async def _gauges(self, replica: Replica) -> EngineGauges | None:
        try:
            return parse_gauges(await self._get(replica, "/metrics"), replica.models)
        except UpstreamError:
            return None

    async def _get(self, replica: Replica, path: str) -> bytes:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await self._upstream.get(replica.endpoint, path, _MAX_BYTES)
        except TimeoutError:
            raise BadAnswerError(f"did not answer {path} within {_TIMEOUT_S:g} s") from None


def _models(body: bytes) -> Mapping[str, Any]:
    """Entries of a model list by name. Raises BadAnswerError."""
    try:
        models = {str(entry["id"]): entry for entry in orjson.loads(body)["data"]}
    except (orjson.JSONDecodeError, LookupError, TypeError):
        models = {}
    if not models:
        raise BadAnswerError("answered /v1/models without a list of models")
    return models
