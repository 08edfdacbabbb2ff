"""From a client to a replica and back: the one path that all policies share."""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.types import Receive, Scope, Send

from lb.apierror import ApiError, method_not_allowed, no_healthy_replica, replica_failed
from lb.asgi import ClientLeftError, Incoming, UntilClientLeaves, read_request
from lb.counters import Counters
from lb.fleet import Fleet
from lb.generation import parse_request
from lb.http1 import post
from lb.replicas import Replica, Request
from lb.reply import Reply
from lb.router import Router
from lb.upstream import ConnectFailedError, ConnectionLostError, Upstream, UpstreamError

logger = logging.getLogger("lb")

_CLIENT_LEFT = 499


class Relay:
    """An ASGI application for every POST with a JSON body that names a model."""

    def __init__(
        self,
        fleet: Fleet,
        router: Router,
        upstream: Upstream,
        counters: Counters,
        max_body_bytes: int,
    ) -> None:
        self._fleet = fleet
        self._router = router
        self._upstream = upstream
        self._counters = counters
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = Reply(send)
        try:
            await self._answer(scope, receive, reply)
        except ClientLeftError:
            reply.status = _CLIENT_LEFT
        except ApiError as error:
            await reply.refuse(error)
        except UpstreamError as error:
            await reply.refuse(_as_api_error(reply.replica, error))
        except asyncio.CancelledError:
            # The server's grace period is over: it cancels every open request as its
            # last act and waits for none, so the cancellation ends here.
            await reply.break_off(no_healthy_replica("The balancer is stopping"))
        finally:
            self._counters.request(reply.replica, reply.model, reply.status)

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        if scope["method"] != "POST":
            raise method_not_allowed(scope["method"], scope["path"])
        incoming = await read_request(scope, receive, self._max_body_bytes)
        request = parse_request(incoming.body, time.monotonic())
        async with UntilClientLeaves(receive) as client:
            await self._forward(incoming, request, reply)
        if client.left:
            raise ClientLeftError

    async def _forward(self, incoming: Incoming, request: Request, reply: Reply) -> None:
        """Try one replica, and once another one if that failed before its first byte."""
        replica = self._router.choose(request)
        reply.model = request.model
        try:
            await self._attempt(replica, incoming, request, reply)
        except (ConnectFailedError, ConnectionLostError):
            other = self._router.choose_other(request, replica)
            if other is None:
                raise
            self._counters.retry(replica.name)
            await self._attempt(other, incoming, request, reply)

    async def _attempt(
        self, replica: Replica, incoming: Incoming, request: Request, reply: Reply
    ) -> None:
        """Raises UpstreamError only if nothing has been sent to the client."""
        reply.replica = replica.name
        message = post(incoming.target, replica.name, incoming.headers, incoming.body)
        with self._fleet.begin(replica, request) as flight:
            try:
                response = await self._upstream.send(replica.endpoint, message)
            except UpstreamError as error:
                self._note(replica, error)
                raise
            flight.answered()
            try:
                await reply.pass_on(response)
            except UpstreamError as error:
                self._note(replica, error)
                await reply.break_off(_as_api_error(replica.name, error))
            finally:
                response.close()

    def _note(self, replica: Replica, error: UpstreamError) -> None:
        self._counters.upstream_error(replica.name, error.kind)
        logger.warning("replica %s %s", replica.name, error)
        if isinstance(error, ConnectFailedError):
            replica.mark_unhealthy(str(error))


def _as_api_error(replica: str, error: UpstreamError) -> ApiError:
    if isinstance(error, ConnectFailedError):
        return no_healthy_replica(f"Replica {replica} {error}")
    return replica_failed(replica, str(error))
