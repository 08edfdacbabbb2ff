"""The parts of a balancer, put together as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from random import Random

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from lb.apierror import ApiError
from lb.control import control_routes
from lb.counters import Counters
from lb.fleet import Fleet
from lb.policies import POLICIES
from lb.poller import Poller
from lb.relay import Relay
from lb.replicas import Replica
from lb.router import Router
from lb.settings import Settings
from lb.upstream import Upstream


def create_app(settings: Settings) -> ASGIApp:
    """A balancer over `settings.endpoints`; it polls them while its lifespan lasts."""
    fleet = Fleet([Replica(endpoint) for endpoint in settings.endpoints])
    counters = Counters()
    upstream = Upstream()
    policy = POLICIES[settings.policy].make(Random(settings.seed), settings.poll_interval_s)
    poller = Poller(fleet.replicas, upstream, settings.poll_interval_s, Random(settings.seed))
    relay = Relay(fleet, Router(fleet, policy), upstream, counters, settings.max_body_bytes)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with poller:
            yield
        upstream.close()

    control = FastAPI(title="lb", lifespan=lifespan, docs_url=None, redoc_url=None)
    control.include_router(control_routes(settings.policy, fleet, counters))
    control.add_exception_handler(HTTPException, _as_api_error)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # Generation is routed ahead of FastAPI, which would cost it several times over.
        generates = (
            scope["type"] == "http"
            and scope["path"].startswith("/v1/")
            and scope["path"] != "/v1/models"
        )
        await (relay if generates else control)(scope, receive, send)

    return app


async def _as_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    refusal = ApiError(error.status_code, error.detail, code=code)
    return Response(
        refusal.body(), error.status_code, headers=error.headers, media_type="application/json"
    )
