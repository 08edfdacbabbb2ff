"""A worker's end of the link."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from lb.endpoint import Endpoint
from lb.fleet import Fleet
from lb.observability.values import Values
from lb.processes.link.messages import LINE_BYTES, address_of, endpoint_at, send
from lb.replicas import Replica

_RETRY_S = 0.1


class Spoke:
    """A context that keeps `fleet` as the control plane knows it.

    `counts` is asked for what this worker has counted, `forget` is called with endpoints
    that are gone for good.
    """

    def __init__(
        self,
        fleet: Fleet,
        path: str,
        counts: Callable[[], Values],
        forget: Callable[[Endpoint], None],
    ) -> None:
        self._fleet = fleet
        self._path = path
        self._counts = counts
        self._forget = forget
        self._writer: asyncio.StreamWriter | None = None
        self._told = asyncio.Event()
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Spoke:
        """Returns when the control plane has told of the replicas that there are."""
        self._fleet.on_lost = self._tell_lost
        self._task = asyncio.create_task(self._stay_connected())
        await self._told.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        if self._writer is not None:
            self._send_counts(self._writer)
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()

    async def _stay_connected(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, self._writer = await asyncio.open_unix_connection(
                    self._path, limit=LINE_BYTES
                )
                while line := await reader.readline():
                    self._heed(self._writer, json.loads(line))
            self._writer = None
            await asyncio.sleep(_RETRY_S)

    def _heed(self, writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
        if "ask" in message:
            self._send_counts(writer)
        told = {endpoint_at(one["address"]): one["facts"] for one in message.get("replicas", ())}
        for endpoint, facts in told.items():
            self._fleet.take(endpoint, facts)
        if "all" in message:
            self._drain_but([endpoint_at(address) for address in message["all"]])
        for address in message.get("gone", ()):
            replica = self._fleet.find(endpoint_at(address))
            if replica is not None:
                self._fleet.remove(replica)
                self._forget(replica.endpoint)
        self._told.set()

    def _drain_but(self, endpoints: Collection[Endpoint]) -> None:
        """A control plane that was started again may never have heard of the others."""
        for replica in self._fleet.replicas:
            if replica.endpoint not in endpoints:
                replica.draining = True
                self._fleet.changed(replica)

    def _tell_lost(self, replica: Replica, reason: str) -> None:
        if self._writer is not None:
            send(self._writer, {"lost": address_of(replica.endpoint), "reason": reason})

    def _send_counts(self, writer: asyncio.StreamWriter) -> None:
        send(writer, {"counts": self._counts()})
