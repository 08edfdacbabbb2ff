"""The health of what is deployed: each balancer and engine is asked, and what it says is judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import orjson
from pydantic import BaseModel, ValidationError

from bench.environments.kvcached.texts import read_log
from bench.environments.operations import Operations, Service
from bench.errors import UserError
from bench.telemetry.scraping import read_series

KvCached = Literal["active", "silently off", "not wanted", "unknown"]

_QUEUED = re.compile(rb"^lb_requests_queued\{.*\} ([0-9]{1,15})$", re.MULTILINE)


class _ReplicaState(BaseModel):
    url: str
    name: str | None = None
    models: tuple[str, ...]
    in_flight: int
    healthy: bool


class _BalancerState(BaseModel):
    """The `/health` of this project's balancer."""

    version: str | None = None
    draining: bool
    replicas: tuple[_ReplicaState, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """What a service says of itself; None and empty for what is not known.

    `running` and `waiting` are requests: those that an engine runs and queues, and those that a
    balancer has at replicas and queues. `problem` says what is wrong, in words.
    """

    service: Service
    models: tuple[str, ...] = ()
    version: str | None = None
    running: int | None = None
    waiting: int | None = None
    kvcached: KvCached = "not wanted"
    problem: str | None = None


def check_all(operations: Operations, services: Sequence[Service]) -> tuple[Health, ...]:
    """The health of all `services`, in their order; all are asked at once."""
    if not services:
        return ()
    with ThreadPoolExecutor(len(services)) as pool:
        return tuple(pool.map(lambda one: check(operations, one), services))


def check(operations: Operations, service: Service) -> Health:
    """The health of one service; one that is not ready is not asked."""
    if not service.ready:
        kvcached: KvCached = "unknown" if service.kvcached else "not wanted"
        return Health(service, kvcached=kvcached, problem=service.state)
    try:
        if service.kind == "engine":
            return _engine(operations, service)
        return _balancer(operations, service)
    except UserError as error:
        return Health(service, problem=str(error))


def _engine(operations: Operations, service: Service) -> Health:
    operations.fetch(service, "/health")
    models = _models(operations, service)
    series = read_series(operations.fetch(service, "/metrics"), service.model)
    kvcached = _kvcached(operations, service)
    problem = None
    if service.model not in models:
        problem = f"it serves {', '.join(models) or 'no model'}, and not {service.model}"
    elif kvcached in ("silently off", "unknown"):
        problem = f"KVCached is wanted, and it is {kvcached}: see its log"
    return Health(
        service,
        models=models,
        version=_field(operations.fetch(service, "/version"), "version"),
        running=_whole(series.get("running")),
        waiting=_whole(series.get("waiting")),
        kvcached=kvcached,
        problem=problem,
    )


def _balancer(operations: Operations, service: Service) -> Health:
    """This project's balancers say how their replicas are; of others only models are known."""
    try:
        state = _BalancerState.model_validate_json(operations.fetch(service, "/health"))
    except (UserError, ValidationError):
        return Health(service, models=_models(operations, service))
    served = [model for one in state.replicas for model in one.models]
    queued = _QUEUED.findall(operations.fetch(service, "/metrics"))
    return Health(
        service,
        models=tuple(dict.fromkeys(served)),
        version=state.version,
        running=sum(one.in_flight for one in state.replicas),
        waiting=sum(map(int, queued)),
        problem=_balancer_problem(state),
    )


def _balancer_problem(state: _BalancerState) -> str | None:
    replicas = state.replicas
    unhealthy = [one.name or one.url.partition("://")[2] for one in replicas if not one.healthy]
    if state.draining:
        return "it is stopping"
    if not replicas:
        return "it has no replicas"
    if unhealthy:
        return f"{len(unhealthy)} of {len(replicas)} replicas unhealthy: {', '.join(unhealthy)}"
    return None


def _kvcached(operations: Operations, service: Service) -> KvCached:
    if not service.kvcached:
        return "not wanted"
    try:
        log = read_log(operations.logs(service, None, follow=False))
    except UserError:
        return "unknown"
    return "active" if log.patched and not log.failures else "silently off"


def _models(operations: Operations, service: Service) -> tuple[str, ...]:
    body = operations.fetch(service, "/v1/models")
    try:
        return tuple(str(one["id"]) for one in orjson.loads(body)["data"])
    except (ValueError, LookupError, TypeError):
        raise UserError(f"it answers /v1/models with {body[:100]!r}") from None


def _field(body: bytes, name: str) -> str | None:
    try:
        return str(orjson.loads(body)[name])
    except (ValueError, LookupError, TypeError):
        return None


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
