"""The door: accepts clients, and sends each request the way that its path says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from lb.apierror import ApiError, no_healthy_replica, replica_failed
from lb.downstream import ClientConnection, Incoming, Limits
from lb.endpoint import Endpoint
from lb.exchange import Exchange, Parts
from lb.passage import Passage
from lb.request_id import REQUEST_ID_HEADER
from lb.upstream import UpstreamError

_SWEEP_S = 1.0
# What needs no API key: probes and scrapes have none.
_OPEN = frozenset({b"/health", b"/ready", b"/metrics"})


class Gateway:
    """A context in which connections that wait too long are closed.

    Generation goes to replicas, everything else to the control plane at `control`. The
    `chores` are done about once a second.
    """

    def __init__(
        self,
        parts: Parts,
        control: Endpoint,
        limits: Limits,
        chores: Iterable[Callable[[], None]] = (),
    ) -> None:
        self._parts = parts
        self._control = control
        self._limits = limits
        self._chores = tuple(chores)
        self._connections: set[ClientConnection] = set()
        self._stopping = False
        self._sweeper: asyncio.Task[None]

    async def __aenter__(self) -> Gateway:
        self._sweeper = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sweeper.cancel()

    def connection(self) -> ClientConnection:
        """The protocol of a client that has connected."""
        return ClientConnection(
            self._exchange_for, self._parts.journal.unanswered, self._connections, self._limits
        )

    async def drain(self, grace_s: float) -> None:
        """Let what is under way end within `grace_s`, then end it."""
        deadline_s = time.monotonic() + grace_s
        for connection in tuple(self._connections):
            connection.stop()
        while self._connections and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)
        for connection in tuple(self._connections):
            connection.give_up(no_healthy_replica("The balancer is stopping"))
        while self._connections and time.monotonic() < deadline_s + _SWEEP_S:
            await asyncio.sleep(0.01)

    async def _sweep(self) -> None:
        # One timer for all connections: one for each would cost every request two changes
        # of the event loop's heap.
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = time.monotonic()
            for connection in tuple(self._connections):
                connection.expire(now_s)
            # Places also come free where a replica has recovered.
            for replica in self._parts.fleet.replicas:
                self._parts.waiting.call(replica)
            for chore in self._chores:
                chore()

    def _exchange_for(self, client: ClientConnection, incoming: Incoming) -> Passage:
        if incoming.target.startswith(b"/v1/") and not incoming.target.startswith(b"/v1/models"):
            return Exchange(self._parts, client, incoming)
        return _ControlPassage(self._control, self._parts, client, incoming)


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
            if incoming.target.partition(b"?")[0] not in _OPEN:
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
