"""The control plane: health, metrics and the models that are served."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lb.apierror import ApiError
from lb.counters import Counters, replica_families
from lb.exposition import CONTENT_TYPE, render
from lb.fleet import Fleet
from lb.replicas import Replica
from lb.waiting import WaitingRoom


def create_control(policy: str, fleet: Fleet, counters: Counters, waiting: WaitingRoom) -> FastAPI:
    """An application over live state; none of its routes asks a replica."""
    app = FastAPI(title="lb", docs_url=None, redoc_url=None)
    app.add_exception_handler(HTTPException, _as_api_error)

    @app.get("/health")
    async def health() -> JSONResponse:
        now_s = time.monotonic()
        healthy = any(replica.healthy for replica in fleet.replicas)
        content = {
            "status": "ok" if healthy else "unavailable",
            "policy": policy,
            "queued": len(waiting),
            "replicas": [_facts(replica, now_s) for replica in fleet.replicas],
        }
        return JSONResponse(content, status_code=200 if healthy else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        families = counters.families() + replica_families(fleet.replicas, time.monotonic())
        return Response(render(families), media_type=CONTENT_TYPE)

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": list(fleet.served_models().values())})

    return app


def _facts(replica: Replica, now_s: float) -> dict[str, Any]:
    return {
        "url": replica.endpoint.url,
        "healthy": replica.healthy,
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
