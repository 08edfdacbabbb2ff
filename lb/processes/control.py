"""The HTTP routes of the control plane: health, metrics and the models that are served."""

from __future__ import annotations

import asyncio
import platform
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lb.http.api_errors import ANY_ORIGIN, ApiError, not_ready, unknown_model
from lb.observability.exposition import CONTENT_TYPE, Values, merge, put, render
from lb.observability.metrics import BUILD_INFO, HEALTHY, METRICS, METRICS_AGE, POLLED_WAITING
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica
from lb.version import version


class ControlPlane:
    """A FastAPI application about `fleet`; it sends no requests to replicas.

    `counts` returns the counts of each process that serves clients. While `draining`, /ready
    answers 503 and /health says so.
    """

    def __init__(
        self, policy: str, fleet: Fleet, counts: Callable[[], Awaitable[Iterable[Values]]]
    ) -> None:
        self.draining = False
        self._policy = policy
        self._fleet = fleet
        self._counts = counts
        self._version = version()

    @asynccontextmanager
    async def serving(self, path: str) -> AsyncIterator[None]:
        """A context in which uvicorn serves the routes at the unix socket `path`."""
        config = uvicorn.Config(
            self._app(),
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

    def _app(self) -> FastAPI:
        app = FastAPI(title="lb", docs_url=None, redoc_url=None)
        app.add_exception_handler(HTTPException, _as_api_error)
        for path, route in (
            ("/health", self._health),
            ("/ready", self._ready),
            ("/metrics", self._metrics),
            ("/v1/models", self._models),
            ("/v1/models/{name:path}", self._model),
        ):
            app.get(path)(route)
        return app

    async def _health(self) -> Response:
        now_s = time.monotonic()
        self._fleet.refresh(now_s)
        content = {
            "status": "ok" if self._any_serving() else "unavailable",
            "version": self._version,
            "policy": self._policy,
            "draining": self.draining,
            "replicas": [_facts(replica, now_s) for replica in self._fleet.replicas],
        }
        return JSONResponse(content)

    async def _ready(self) -> Response:
        if self.draining:
            return _answer(not_ready("The balancer is stopping"))
        if not self._any_serving():
            return _answer(not_ready("No replica is healthy"))
        return JSONResponse({"status": "ok"})

    async def _metrics(self) -> Response:
        now_s = time.monotonic()
        self._fleet.refresh(now_s)
        counted = merge(await self._counts())
        values = counted | _replica_values(self._fleet.replicas, now_s)
        put(values, (BUILD_INFO.name, self._version, self._policy, platform.python_version()), 1)
        lines: list[str] = []
        for metric in METRICS:
            lines += render(metric, values)
            await asyncio.sleep(0)  # this may take long: requests come first
        return Response("".join(lines), media_type=CONTENT_TYPE)

    async def _models(self) -> Response:
        listed = {"object": "list", "data": list(self._fleet.served_models().values())}
        return JSONResponse(listed, headers=_headers([ANY_ORIGIN]))

    async def _model(self, name: str) -> Response:
        served = self._fleet.served_models()
        if name not in served:
            return _answer(unknown_model(name, served))
        return JSONResponse(served[name], headers=_headers([ANY_ORIGIN]))

    def _any_serving(self) -> bool:
        return any(replica.serving for replica in self._fleet.replicas)


class _Uvicorn(uvicorn.Server):
    """A uvicorn server that does not handle signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _facts(replica: Replica, now_s: float) -> dict[str, Any]:
    """A replica's entry in /health."""
    alias = replica.endpoint.alias
    return {
        "url": replica.endpoint.url,
        **({} if alias is None else {"name": alias}),
        "healthy": replica.healthy,
        "draining": replica.draining,
        "weight": replica.weight,
        "models": list(replica.models),
        "in_flight": replica.in_flight,
        "full_at": replica.full_at if replica.full_at < sys.maxsize else None,
        "waiting": replica.waiting,
        "metrics_age_s": replica.metrics_age_s(now_s),
    }


def _replica_values(replicas: Iterable[Replica], now_s: float) -> Values:
    """Metrics of the state of each replica; without its queue if that is unknown."""
    values: Values = {}
    for replica in replicas:
        put(values, (HEALTHY.name, replica.name), int(replica.healthy))
        age_s = replica.metrics_age_s(now_s)
        if replica.waiting is not None and age_s is not None:
            put(values, (POLLED_WAITING.name, replica.name), replica.waiting)
            put(values, (METRICS_AGE.name, replica.name), age_s)
    return values


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
