"""The control plane: health, metrics and the models that are served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lb.apierror import ANY_ORIGIN, ApiError, not_ready, unknown_model
from lb.fleet import Fleet
from lb.observability.exposition import CONTENT_TYPE, render
from lb.observability.gauges import build_values, replica_values
from lb.observability.metrics import METRICS
from lb.observability.values import Values, merge
from lb.replicas import Replica


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
        values = counted | replica_values(fleet.replicas, now_s) | build_values(policy)
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
