"""The control plane: health, metrics and the models that are served."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import lb
from lb.apierror import ANY_ORIGIN, ApiError, not_ready, unknown_model
from lb.board import Board
from lb.discovery.poller import Poller
from lb.discovery.roster import Roster
from lb.discovery.sources import Discovery
from lb.endpoint import Target
from lb.fleet import Fleet
from lb.observability.exposition import CONTENT_TYPE, Values, merge, put, render
from lb.observability.metrics import BUILD_INFO, HEALTHY, METRICS, METRICS_AGE, POLLED_WAITING
from lb.periodic import every
from lb.replicas import Replica
from lb.settings import Settings
from lb.upstream import Upstream


@dataclass(slots=True)
class Status:
    """What the process itself is up to."""

    draining: bool = False


def create_control(
    policy: str,
    fleet: Fleet,
    snapshots: Callable[[], Awaitable[Iterable[Values]]],
    status: Status,
) -> FastAPI:
    """An application over live state; none of its routes asks a replica.

    `snapshots` are the counts of every process that serves.
    """
    app = FastAPI(title="lb", docs_url=None, redoc_url=None)
    app.add_exception_handler(HTTPException, _as_api_error)

    @app.get("/health")
    async def health() -> JSONResponse:
        now_s = time.monotonic()
        fleet.refresh(now_s)
        healthy = any(replica.serving for replica in fleet.replicas)
        content = {
            "status": "ok" if healthy else "unavailable",
            "policy": policy,
            "draining": status.draining,
            "replicas": [_facts(replica, now_s) for replica in fleet.replicas],
        }
        return JSONResponse(content)

    @app.get("/ready")
    async def ready() -> Response:
        reason = _unready(fleet, status)
        return JSONResponse({"status": "ok"}) if reason is None else _answer(not_ready(reason))

    @app.get("/metrics")
    async def metrics() -> Response:
        now_s = time.monotonic()
        fleet.refresh(now_s)
        counted = merge(await snapshots())
        values = counted | _replica_values(fleet.replicas, now_s) | _build_values(policy)
        parts = []
        for metric in METRICS:
            parts.append(render([metric], values))
            await asyncio.sleep(0)  # those of many replicas take long: requests come first
        return Response("".join(parts), media_type=CONTENT_TYPE)

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        listed = {"object": "list", "data": list(fleet.served_models().values())}
        return JSONResponse(listed, headers=_headers([ANY_ORIGIN]))

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        served = fleet.served_models()
        if name not in served:
            return _answer(unknown_model(name, served))
        return JSONResponse(served[name], headers=_headers([ANY_ORIGIN]))

    return app


def _replica_values(replicas: Iterable[Replica], now_s: float) -> Values:
    """The state of each replica; what is not known of one is left out."""
    values: Values = {}
    for replica in replicas:
        put(values, (HEALTHY.name, replica.name), int(replica.healthy))
        age_s = replica.metrics_age_s(now_s)
        if replica.waiting is not None and age_s is not None:
            put(values, (POLLED_WAITING.name, replica.name), replica.waiting)
            put(values, (METRICS_AGE.name, replica.name), age_s)
    return values


def _build_values(policy: str) -> Values:
    values: Values = {}
    put(values, (BUILD_INFO.name, lb.__version__, policy, platform.python_version()), 1)
    return values


def _unready(fleet: Fleet, status: Status) -> str | None:
    """Why new requests should go elsewhere."""
    if status.draining:
        return "The balancer is stopping"
    if not any(replica.serving for replica in fleet.replicas):
        return "No replica is healthy"
    return None


def _facts(replica: Replica, now_s: float) -> dict[str, Any]:
    alias = replica.endpoint.alias
    return {
        "url": replica.endpoint.url,
        **({} if alias is None else {"name": alias}),
        "healthy": replica.healthy,
        "draining": replica.draining,
        "weight": replica.weight,
        "models": list(replica.models),
        "in_flight": replica.in_flight,
        "waiting": replica.waiting,
        "metrics_age_s": replica.metrics_age_s(now_s),
    }


async def _as_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    api_error = ApiError(error.status_code, error.detail, code=code)
    answer = _answer(api_error.at(request.url.path.encode()))
    answer.headers.update(error.headers or {})
    return answer


def _answer(error: ApiError) -> Response:
    headers = _headers([ANY_ORIGIN, *error.headers])
    return Response(error.body(), error.status, headers=headers, media_type="application/json")


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("ascii"): value.decode("ascii") for name, value in headers}


_SWEEP_S = 1.0


@asynccontextmanager
async def watching(
    settings: Settings,
    fleet: Fleet,
    upstream: Upstream,
    gone: Callable[[Iterable[Replica]], None],
    board: Board | None = None,
) -> AsyncIterator[None]:
    """A context in which `fleet` follows discovery, and every replica in it is polled.

    Entering it waits a moment for the replicas' first answers. `gone` is called with
    replicas that have left for good.
    """
    roster = Roster(fleet, board)
    poller = Poller(fleet, upstream, settings.poll_interval_s, Random(settings.seed))

    def found(targets: tuple[Target, ...]) -> None:
        roster.reconcile(targets, time.monotonic())
        poller.follow()

    def sweep() -> None:
        now_s = time.monotonic()
        fleet.refresh(now_s)
        gone(roster.forget_drained(now_s))

    async with poller, Discovery(settings.source, found), every(_SWEEP_S, sweep):
        await poller.first_round()
        yield


@asynccontextmanager
async def http_at(app: ASGIApp, path: str) -> AsyncIterator[None]:
    """A context in which uvicorn serves `app` at a unix socket."""
    config = uvicorn.Config(
        app,
        uds=path,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        date_header=False,
        server_header=False,
    )
    server = _Uvicorn(config)
    task = asyncio.create_task(server.serve())
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await task


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the process that it is a part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
