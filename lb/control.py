"""The control plane: health, metrics and the models that are served."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from lb.counters import Counters, replica_families
from lb.exposition import CONTENT_TYPE, render
from lb.fleet import Fleet
from lb.replicas import Replica


def control_routes(policy: str, fleet: Fleet, counters: Counters) -> APIRouter:
    """Routes over live state; none of them asks a replica."""
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> JSONResponse:
        now_s = time.monotonic()
        healthy = any(replica.healthy for replica in fleet.replicas)
        content = {
            "status": "ok" if healthy else "unavailable",
            "policy": policy,
            "replicas": [_facts(replica, now_s) for replica in fleet.replicas],
        }
        return JSONResponse(content, status_code=200 if healthy else 503)

    @routes.get("/metrics")
    async def metrics() -> Response:
        families = counters.families() + replica_families(fleet.replicas, time.monotonic())
        return Response(render(families), media_type=CONTENT_TYPE)

    @routes.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": list(fleet.served_models().values())})

    return routes


def _facts(replica: Replica, now_s: float) -> dict[str, Any]:
    return {
        "url": replica.endpoint.url,
        "healthy": replica.healthy,
        "models": list(replica.models),
        "in_flight": replica.in_flight,
        "waiting": replica.waiting,
        "metrics_age_s": replica.metrics_age_s(now_s),
    }
