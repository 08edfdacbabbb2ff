"""The door: accepts clients, and sends each request the way that its path says."""

from __future__ import annotations

import asyncio
import time

from lb.apierror import ApiError, no_healthy_replica, replica_failed
from lb.downstream import ClientConnection, Incoming, Limits
from lb.endpoint import Endpoint
from lb.exchange import Exchange, Parts
from lb.http1 import Header
from lb.passage import Passage
from lb.request_id import REQUEST_ID_HEADER
from lb.upstream import UpstreamError

# What does not end by itself at the end is broken off within this time.
_BREAK_S = 1.0
# What needs no API key: probes and scrapes have none.
_OPEN = frozenset({b"/health", b"/ready", b"/metrics"})


class Gateway:
    """Generation goes to replicas, everything else to the control plane at `control`."""

    def __init__(
        self,
        parts: Parts,
        control: Endpoint,
        limits: Limits,
    ) -> None:
        self._parts = parts
        self._control = control
        self._limits = limits
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
        deadline_s = time.monotonic() + grace_s
        for connection in tuple(self._connections):
            connection.stop()
        while self._connections and time.monotonic() < deadline_s and not hurried.is_set():
            await asyncio.sleep(0.01)
        for connection in tuple(self._connections):
            connection.give_up(no_healthy_replica("The balancer is stopping"))
        deadline_s = time.monotonic() + _BREAK_S
        while self._connections and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)

    def _exchange_for(self, client: ClientConnection, incoming: Incoming) -> Passage:
        if incoming.target.startswith(b"/v1/") and not incoming.target.startswith(b"/v1/models"):
            return Exchange(self._parts, client, incoming)
        return _ControlPassage(self._control, self._parts, client, incoming)

    def _unwelcome(self, target: bytes, headers: list[Header]) -> ApiError | None:
        """Nobody may fill the balancer's memory who then is not let in."""
        try:
            if not _is_open(target):
                self._parts.door.admit(headers)
        except ApiError as error:
            return error
        return None


def _is_open(target: bytes) -> bool:
    return target.partition(b"?")[0] in _OPEN


class _ControlPassage(Passage):
    """A request to the balancer itself."""

    __slots__ = ("_control", "_parts", "_record")

    def __init__(
        self, control: Endpoint, parts: Parts, client: ClientConnection, incoming: Incoming
    ) -> None:
        super().__init__(parts.upstream, client, incoming)
        self._control = control
        self._parts = parts
        self._record = parts.journal.begun(client, incoming)
        self._more = ((REQUEST_ID_HEADER, self._record.request_id),)

    def start(self) -> None:
        incoming = self._incoming
        try:
            if not _is_open(incoming.target):
                self._record.tenant = self._parts.door.admit(incoming.headers)
        except ApiError as error:
            self.refuse(error)
        else:
            self.send(self._control)

    def begun(self, _status: int) -> bool:
        return True

    def passed(self) -> None:
        pass

    def expire(self, _now_s: float) -> None:
        pass

    def failed(self, error: UpstreamError) -> None:
        self.cut(replica_failed("control plane", str(error)))

    def refuse(self, error: ApiError) -> None:
        self._record.refused(error)
        super().refuse(error)

    def ended(self, status: int) -> None:
        self._parts.journal.log(self._record, self, status)
