"""The control plane's end of the link."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import Any

from lb.endpoint import Endpoint, authority
from lb.fleet import Fleet
from lb.observability.exposition import Values, merge
from lb.observability.metrics import GAUGES, without_replica
from lb.replicas import Replica

# News of replicas is gathered for so long, so that a thousand polls are not a thousand lines.
_GATHER_S = 0.01
_ANSWER_TIMEOUT_S = 1.0
_LOOK_S = 0.05


class Hub:
    """Tells every worker that connects what becomes of the replicas of `fleet`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._workers: set[asyncio.StreamWriter] = set()
        self._news: dict[Replica, None] = {}
        self._answers: dict[asyncio.StreamWriter, asyncio.Future[None]] = {}
        # The last counts of each worker, and the sum of those of workers that have ended.
        self._snapshots: dict[asyncio.StreamWriter, Values] = {}
        self._ended: Values = {}

    @contextlib.asynccontextmanager
    async def listening(self, path: str) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, path, limit=LINE_BYTES)
        self._fleet.on_change = self._tell
        self._fleet.on_complete = lambda: self._send_all(self._roll())
        try:
            yield
        finally:
            server.close()
            for worker in self._workers:
                worker.close()

    def gone(self, replicas: Iterable[Replica]) -> None:
        """Replicas have been taken out of the fleet: their counts go with them."""
        gone = [replica.endpoint for replica in replicas]
        if gone:
            self._send_all({"gone": [address_of(endpoint) for endpoint in gone]})
        for endpoint in gone:
            if not self._fleet.has(endpoint.name):
                self._ended = without_replica(self._ended, endpoint.name)

    async def all_left(self) -> None:
        """Wait until no worker is connected."""
        while self._workers:
            await asyncio.sleep(_LOOK_S)

    async def snapshots(self) -> list[Values]:
        """The counts of all workers, also of those that have ended."""
        await asyncio.gather(*(self._ask(worker) for worker in tuple(self._workers)))
        return [self._ended, *self._snapshots.values()]

    async def _ask(self, worker: asyncio.StreamWriter) -> None:
        answer = self._answers.get(worker)
        if answer is None:
            answer = self._answers[worker] = asyncio.get_running_loop().create_future()
            send(worker, {"ask": "counts"})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer), _ANSWER_TIMEOUT_S)

    async def _serve(self, reader: asyncio.StreamReader, worker: asyncio.StreamWriter) -> None:
        self._workers.add(worker)
        try:
            judged = [replica for replica in self._fleet.replicas if replica.judged]
            send(worker, news_of(judged) | self._roll())
            while line := await reader.readline():
                self._heed(worker, json.loads(line))
        except ConnectionError:
            pass  # its supervisor has noticed as well
        finally:
            self._workers.discard(worker)
            self._answered(worker)
            self._close_books(worker)
            worker.close()

    def _heed(self, worker: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
        if "counts" in message:
            self._snapshots[worker] = message["counts"]
            self._answered(worker)
        elif (replica := self._fleet.find(endpoint_at(message["lost"]))) is not None:
            replica.mark_unhealthy(message["reason"])
            self._fleet.changed(replica)

    def _close_books(self, worker: asyncio.StreamWriter) -> None:
        """Keep what a worker has counted. What it had under way ended with it."""
        last = self._snapshots.pop(worker, {})
        counts = {name: values for name, values in last.items() if name not in GAUGES}
        self._ended = merge([self._ended, counts])

    def _answered(self, worker: asyncio.StreamWriter) -> None:
        answer = self._answers.pop(worker, None)
        if answer is not None and not answer.done():
            answer.set_result(None)

    def _roll(self) -> dict[str, Any]:
        """Which replicas there are. Nothing while this control plane does not know it itself.

        One that was started again while nobody can tell has none, and they are fine.
        """
        if not self._fleet.complete:
            return {}
        return {"all": [address_of(replica.endpoint) for replica in self._fleet.replicas]}

    def _tell(self, replica: Replica) -> None:
        # Workers may know better of one that has not been polled yet by this control plane.
        if not replica.judged and not replica.draining:
            return
        if not self._news:
            asyncio.get_running_loop().call_later(_GATHER_S, self._tell_news)
        self._news[replica] = None

    def _tell_news(self) -> None:
        news, self._news = self._news, {}
        self._send_all(news_of(news))

    def _send_all(self, message: Mapping[str, Any]) -> None:
        for worker in self._workers:
            send(worker, message)


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


LINE_BYTES = 16 * 1024 * 1024


def send(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    # json and not orjson: it knows infinity, which some of the times are.
    writer.write(json.dumps(message).encode() + b"\n")


def news_of(replicas: Iterable[Replica]) -> dict[str, Any]:
    """What is known of the replicas."""
    return {
        "replicas": [
            {"address": address_of(replica.endpoint), "facts": replica.facts()}
            for replica in replicas
        ]
    }


def address_of(endpoint: Endpoint) -> list[str | int | None]:
    prefix = endpoint.prefix.decode("ascii")
    return [endpoint.host, endpoint.port, endpoint.alias, prefix, endpoint.tls]


def endpoint_at(address: list[Any]) -> Endpoint:
    host, port, alias, prefix, tls = address
    return Endpoint(
        host, port, authority(host, port), alias=alias, prefix=prefix.encode("ascii"), tls=tls
    )
