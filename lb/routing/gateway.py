"""Accepts clients; a request goes to a replica or to the control plane, by its path."""

from __future__ import annotations

import asyncio
import time

from lb.http.api_errors import (
    ApiError,
    no_healthy_replica,
    not_supported,
    out_of_descriptors,
    replica_failed,
)
from lb.http.downstream import BodyMemory, ClientConnection, Incoming, Limits
from lb.http.endpoint import Endpoint
from lb.http.http1 import REQUEST_ID_HEADER, Header
from lb.http.relay import Relay
from lb.http.upstream.errors import IdleClosedError, OutOfDescriptorsError, UpstreamError
from lb.routing.exchange import Components, Exchange
from lb.routing.routes import Route, route_of

# After the grace period: the time for connections to end with an error.
_BREAK_S = 1.0
# How long idle connections stay open when the balancer stops: a request may be on its way.
_IDLE_S = 1.0
# The control plane hangs if it is silent for this time: it sends no requests itself.
_CONTROL_S = 30.0
# Probes and scrapes have no API key.
_WITHOUT_KEY = frozenset({b"/health", b"/ready", b"/metrics"})


class Gateway:
    """Relays what replicas serve to them, everything else to the control plane at `control`.

    `exchange` is the class of what relays a request to a replica.
    """

    def __init__(
        self,
        components: Components,
        control: Endpoint,
        limits: Limits,
        exchange: type[Exchange] = Exchange,
    ) -> None:
        self._components = components
        self._exchange = exchange
        self._control = control
        self._limits = limits
        self._bodies = BodyMemory(limits.bodies_bytes)
        self._connections: set[ClientConnection] = set()
        self._stopping = False

    def connection(self) -> ClientConnection:
        """The protocol of a client that has connected."""
        connection = ClientConnection(
            self._handler_for,
            self._components.journal.unanswered,
            self._reject_early,
            self._connections,
            self._limits,
            self._bodies,
        )
        connection.close_after_answer = self._stopping
        return connection

    def expire(self) -> None:
        """Close connections that have waited too long; to be called about every second.

        A timer for each connection would cost two changes of the event loop's heap per request.
        """
        now_s = time.monotonic()
        for connection in tuple(self._connections):
            connection.expire(now_s)

    def stop_keep_alive(self) -> None:
        """From now on, connections end with the next answer."""
        self._stopping = True
        for connection in self._connections:
            connection.close_after_answer = True

    async def drain(self, grace_s: float, forced: asyncio.Event) -> None:
        """Let requests end for `grace_s`, or until `forced`; then end them with an error."""
        began_s = time.monotonic()
        for until_s in (min(grace_s, _IDLE_S), grace_s):
            while self._connections and time.monotonic() < began_s + until_s:
                if forced.is_set():
                    break
                await asyncio.sleep(0.01)
            for connection in tuple(self._connections):
                connection.stop()
        for connection in tuple(self._connections):
            connection.give_up(no_healthy_replica("The balancer is stopping"))
        deadline_s = time.monotonic() + _BREAK_S
        while self._connections and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)

    def _handler_for(self, client: ClientConnection, incoming: Incoming) -> Relay:
        route = route_of(incoming.method, incoming.target)
        if route.methods:
            return self._exchange(self._components, client, incoming, route)
        return _ControlRelay(self._control, self._components, client, incoming, route)

    def _reject_early(self, target: bytes, headers: list[Header]) -> ApiError | None:
        """The error for a client without a valid key: its body must not fill the memory."""
        try:
            if not _needs_no_key(target):
                self._components.authenticator.authenticate(headers)
        except ApiError as error:
            return error
        return None


def _needs_no_key(target: bytes) -> bool:
    return target.partition(b"?")[0] in _WITHOUT_KEY


class _ControlRelay(Relay):
    """A request to the balancer itself, or one that is not supported."""

    __slots__ = ("_components", "_control", "_record", "_route")

    def __init__(
        self,
        control: Endpoint,
        components: Components,
        client: ClientConnection,
        incoming: Incoming,
        route: Route,
    ) -> None:
        super().__init__(components.upstream, client, incoming, _CONTROL_S)
        self._control = control
        self._components = components
        self._route = route
        self._record = components.journal.begun(client, incoming)
        self._more = ((REQUEST_ID_HEADER, self._record.request_id),)

    def start(self) -> None:
        incoming = self._incoming
        try:
            if not _needs_no_key(incoming.target):
                self._record.tenant = self._components.authenticator.authenticate(incoming.headers)
            if self._route.kind == "refused":
                raise not_supported(incoming.method, incoming.target, self._route.reason)
        except ApiError as error:
            self.refuse(error)
        else:
            self.deadline_s = time.monotonic() + _CONTROL_S
            self.send(self._control)

    def on_upstream_error(self, error: UpstreamError) -> None:
        if isinstance(error, IdleClosedError):
            self.send(self._control)
        elif isinstance(error, OutOfDescriptorsError):
            self.cut(out_of_descriptors(str(error)))
        else:
            self.cut(replica_failed("control plane", str(error)))

    def refuse(self, error: ApiError) -> None:
        self._record.refused(error)
        super().refuse(error.at(self._incoming.target))

    def on_end(self, status: int) -> None:
        self._components.journal.ended(self._record, self, status, counted=False)
