"""What the control plane and the workers send each other: lines of JSON on a unix socket.

The control plane sends what is known of all replicas, then what changes. A worker reports
replicas that its requests could not reach, and sends its counts when asked. Either side may be
restarted: workers go on with what they know, and connect again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from lb.http.endpoint import Endpoint, authority
from lb.observability.exposition import Values, merge
from lb.observability.metrics import GAUGES, without_replica
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica

_LINE_BYTES = 16 * 1024 * 1024
# Changes of replicas are collected for this time, to be sent in one line.
_GATHER_S = 0.01
_ANSWER_TIMEOUT_S = 1.0
_CHECK_S = 0.05
_RECONNECT_S = 0.1


class LinkServer:
    """The control plane's end: sends every worker the state of the replicas of `fleet`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._workers: set[asyncio.StreamWriter] = set()
        self._changed: dict[Replica, None] = {}
        self._answers: dict[asyncio.StreamWriter, asyncio.Future[None]] = {}
        # The last counts of each worker, and the sum of those of workers that have ended.
        self._counts: dict[asyncio.StreamWriter, Values] = {}
        self._ended: Values = {}

    @contextlib.asynccontextmanager
    async def listening(self, path: str) -> AsyncIterator[None]:
        """A context in which workers can connect to the unix socket at `path`."""
        server = await asyncio.start_unix_server(self._serve, path, limit=_LINE_BYTES)
        self._fleet.on_change = self._send_soon
        self._fleet.on_complete = lambda: self._send_all(self._membership())
        try:
            yield
        finally:
            server.close()
            for worker in self._workers:
                worker.close()

    def forget(self, endpoint: Endpoint) -> None:
        """A replica has been removed from the fleet: its counts are removed as well."""
        self._send_all({"removed": _address(endpoint)})
        if not self._fleet.has(endpoint.name):
            self._ended = without_replica(self._ended, endpoint.name)

    async def all_disconnected(self) -> None:
        """Wait until no worker is connected."""
        while self._workers:
            await asyncio.sleep(_CHECK_S)

    async def counts(self) -> list[Values]:
        """The counts of all workers, also of those that have ended."""
        await asyncio.gather(*(self._ask(worker) for worker in tuple(self._workers)))
        return [self._ended, *self._counts.values()]

    async def _ask(self, worker: asyncio.StreamWriter) -> None:
        answer = self._answers.get(worker)
        if answer is None:
            answer = self._answers[worker] = asyncio.get_running_loop().create_future()
            _send(worker, {"ask": "counts"})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer), _ANSWER_TIMEOUT_S)

    async def _serve(self, reader: asyncio.StreamReader, worker: asyncio.StreamWriter) -> None:
        self._workers.add(worker)
        try:
            health_known = [replica for replica in self._fleet.replicas if replica.health_known]
            _send(worker, _facts_of(health_known) | self._membership())
            while line := await reader.readline():
                self._handle(worker, json.loads(line))
        except ConnectionError:
            pass  # the supervisor restarts the worker
        finally:
            self._workers.discard(worker)
            self._answered(worker)
            self._keep_counts(worker)
            worker.close()

    def _handle(self, worker: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
        if "counts" in message:
            self._counts[worker] = message["counts"]
            self._answered(worker)
        elif (replica := self._fleet.find(_endpoint(message["lost"]))) is not None:
            replica.mark_unhealthy(message["reason"])
            self._fleet.changed(replica)

    def _keep_counts(self, worker: asyncio.StreamWriter) -> None:
        """Add the counts of a worker that has ended, without those of what it had under way."""
        last = self._counts.pop(worker, {})
        counts = {name: values for name, values in last.items() if name not in GAUGES}
        self._ended = merge([self._ended, counts])

    def _answered(self, worker: asyncio.StreamWriter) -> None:
        answer = self._answers.pop(worker, None)
        if answer is not None and not answer.done():
            answer.set_result(None)

    def _membership(self) -> dict[str, Any]:
        """The endpoints of all replicas; empty while discovery is not complete.

        A control plane that was just restarted knows no replicas, and workers keep theirs.
        """
        if not self._fleet.complete:
            return {}
        return {"all": [_address(replica.endpoint) for replica in self._fleet.replicas]}

    def _send_soon(self, replica: Replica) -> None:
        # Workers may know more of a replica that this control plane has not polled yet.
        if not replica.health_known and not replica.draining:
            return
        if not self._changed:
            asyncio.get_running_loop().call_later(_GATHER_S, self._send_changed)
        self._changed[replica] = None

    def _send_changed(self) -> None:
        changed, self._changed = self._changed, {}
        self._send_all(_facts_of(changed))

    def _send_all(self, message: Mapping[str, Any]) -> None:
        for worker in self._workers:
            _send(worker, message)


class LinkClient:
    """A worker's end: a context in which `fleet` is as the control plane knows it.

    `counts` returns this worker's counts; `forget` is called with each endpoint that has been
    removed from the fleet.
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
        self._first_message = asyncio.Event()
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> LinkClient:
        """Returns when the control plane has sent its first message."""
        self._fleet.on_lost = self._report_lost
        self._task = asyncio.create_task(self._stay_connected())
        await self._first_message.wait()
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
                    self._path, limit=_LINE_BYTES
                )
                while line := await reader.readline():
                    self._handle(self._writer, json.loads(line))
            self._writer = None
            await asyncio.sleep(_RECONNECT_S)

    def _handle(self, writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
        if "ask" in message:
            self._send_counts(writer)
        for one in message.get("replicas", ()):
            self._fleet.apply(_endpoint(one["address"]), one["facts"])
        if "all" in message:
            listed = {_endpoint(address) for address in message["all"]}
            for replica in self._fleet.replicas:
                # A restarted control plane may not know a replica that was removed meanwhile.
                if replica.endpoint not in listed:
                    replica.draining = True
                    self._fleet.changed(replica)
        if "removed" in message:
            removed = self._fleet.find(_endpoint(message["removed"]))
            if removed is not None:
                self._fleet.remove(removed)
                self._forget(removed.endpoint)
        self._first_message.set()

    def _report_lost(self, replica: Replica, reason: str) -> None:
        if self._writer is not None:
            _send(self._writer, {"lost": _address(replica.endpoint), "reason": reason})

    def _send_counts(self, writer: asyncio.StreamWriter) -> None:
        _send(writer, {"counts": self._counts()})


def _send(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    # Not orjson, which cannot write infinity: some times are infinite.
    writer.write(json.dumps(message).encode() + b"\n")


def _facts_of(replicas: Iterable[Replica]) -> dict[str, Any]:
    return {
        "replicas": [{"address": _address(one.endpoint), "facts": one.facts()} for one in replicas]
    }


def _address(endpoint: Endpoint) -> list[str | int | None]:
    prefix = endpoint.prefix.decode("ascii")
    return [endpoint.host, endpoint.port, endpoint.alias, prefix, endpoint.tls]


def _endpoint(address: list[Any]) -> Endpoint:
    host, port, alias, prefix, tls = address
    return Endpoint(
        host, port, authority(host, port), alias=alias, prefix=prefix.encode("ascii"), tls=tls
    )
