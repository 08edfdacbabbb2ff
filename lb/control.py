"""The control plane: health, metrics and the models that are served."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lb.apierror import ApiError
from lb.counters import Snapshot, families, replica_families
from lb.exposition import CONTENT_TYPE, render
from lb.fleet import Fleet
from lb.replicas import Replica


@dataclass(slots=True)
class Status:
    """What the process itself is up to."""

    draining: bool = False


def create_control(
    policy: str,
    fleet: Fleet,
    snapshots: Callable[[], Awaitable[Sequence[Snapshot]]],
    status: Status,
) -> FastAPI:
    """An application over live state; none of its routes asks a replica.

    `snapshots` are the counts of every worker.
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
        return JSONResponse(content, status_code=200 if healthy else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        now_s = time.monotonic()
        fleet.refresh(now_s)
        found = families(await snapshots()) + replica_families(fleet.replicas, now_s)
        return Response(render(found), media_type=CONTENT_TYPE)

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": list(fleet.served_models().values())})

    return app


def _facts(replica: Replica, now_s: float) -> dict[str, Any]:
    return {
        "url": replica.endpoint.url,
        "healthy": replica.healthy,
        "draining": replica.draining,
        "weight": replica.weight,
        "models": list(replica.models),
        "in_flight": replica.in_flight,
        "waiting": replica.waiting,
        "metrics_age_s": replica.metrics_age_s(now_s),
    }


async def _as_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    refusal = ApiError(error.status_code, error.detail, code=code)
    return Response(
        refusal.body(), error.status_code, headers=error.headers, media_type="application/json"
    )
