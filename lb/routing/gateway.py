"""The door: accepts clients, and sends each request the way that its path says."""

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
from lb.http.relay import Passage
from lb.http.upstream import IdleClosedError, OutOfDescriptorsError, UpstreamError
from lb.routing.exchange import Exchange, Parts
from lb.routing.routes import Route, route_of

# What does not end by itself at the end is broken off within this time.
_BREAK_S = 1.0
# Who has a connection, and nothing under way, may be about to send a request: it was on its
# way, or not read yet, when it was decided to stop.
_LAST_CALL_S = 1.0
# The control plane asks nobody: one that says nothing for so long is stuck.
_CONTROL_S = 30.0
# What needs no API key: probes and scrapes have none.
_OPEN = frozenset({b"/health", b"/ready", b"/metrics"})


class Gateway:
    """What replicas serve goes to them, everything else to the control plane at `control`."""

    def __init__(
        self,
        parts: Parts,
        control: Endpoint,
        limits: Limits,
    ) -> None:
        self._parts = parts
        self._control = control
        self._limits = limits
        self._bodies = BodyMemory(limits.bodies_bytes)
        self._connections: set[ClientConnection] = set()
        self._leaving = False

    def connection(self) -> ClientConnection:
        """The protocol of a client that has connected."""
        connection = ClientConnection(
            self._exchange_for,
            self._parts.journal.unanswered,
            self._unwelcome,
            self._connections,
            self._limits,
            self._bodies,
        )
        connection.leaving = self._leaving
        return connection

    def expire(self) -> None:
        """Close connections that have waited too long; to be called about every second.

        One timer for all connections: one for each would cost every request two changes
        of the event loop's heap.
        """
        now_s = time.monotonic()
        for connection in tuple(self._connections):
            connection.expire(now_s)

    def leave(self) -> None:
        """From now on, tell clients to come back on a new connection."""
        self._leaving = True
        for connection in self._connections:
            connection.leaving = True

    async def drain(self, grace_s: float, hurried: asyncio.Event) -> None:
        """Let what is under way end within `grace_s`, or until `hurried`, then end it."""
        began_s = time.monotonic()
        for until_s in (min(grace_s, _LAST_CALL_S), grace_s):
            while self._connections and time.monotonic() < began_s + until_s:
                if hurried.is_set():
                    break
                await asyncio.sleep(0.01)
            for connection in tuple(self._connections):
                connection.stop()
        for connection in tuple(self._connections):
            connection.give_up(no_healthy_replica("The balancer is stopping"))
        deadline_s = time.monotonic() + _BREAK_S
        while self._connections and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)

    def _exchange_for(self, client: ClientConnection, incoming: Incoming) -> Passage:
        route = route_of(incoming.method, incoming.target)
        if route.methods:
            return Exchange(self._parts, client, incoming, route)
        return _ControlPassage(self._control, self._parts, client, incoming, route)

    def _unwelcome(self, target: bytes, headers: list[Header]) -> ApiError | None:
        """Nobody may fill the balancer's memory who then is not let in."""
        try:
            if not _is_open(target):
                self._parts.authenticator.authenticate(headers)
        except ApiError as error:
            return error
        return None


def _is_open(target: bytes) -> bool:
    return target.partition(b"?")[0] in _OPEN


class _ControlPassage(Passage):
    """A request to the balancer itself, or one that nobody answers."""

    __slots__ = ("_control", "_parts", "_record", "_route")

    def __init__(
        self,
        control: Endpoint,
        parts: Parts,
        client: ClientConnection,
        incoming: Incoming,
        route: Route,
    ) -> None:
        super().__init__(parts.upstream, client, incoming)
        self._control = control
        self._parts = parts
        self._route = route
        self._record = parts.journal.begun(client, incoming)
        self._more = ((REQUEST_ID_HEADER, self._record.request_id),)

    def start(self) -> None:
        incoming = self._incoming
        try:
            if not _is_open(incoming.target):
                self._record.tenant = self._parts.authenticator.authenticate(incoming.headers)
            if self._route.kind == "refused":
                raise not_supported(incoming.method, incoming.target, self._route.reason)
        except ApiError as error:
            self.refuse(error)
        else:
            self.passed()
            self.send(self._control)

    def begun(self, _status: int, _beginning: bytes) -> bool:
        return True

    def passed(self) -> None:
        self.deadline_s = time.monotonic() + _CONTROL_S

    def failed(self, error: UpstreamError) -> None:
        if isinstance(error, IdleClosedError):
            self.send(self._control)
        elif isinstance(error, OutOfDescriptorsError):
            self.cut(out_of_descriptors(str(error)))
        else:
            self.cut(replica_failed("control plane", str(error)))

    def refuse(self, error: ApiError) -> None:
        self._record.refused(error)
        super().refuse(error.at(self._incoming.target))

    def ended(self, status: int) -> None:
        self._parts.journal.ended(self._record, self, status, counted=False)
