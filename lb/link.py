"""What the control plane and the workers tell each other: lines of JSON on a unix socket.

Workers are told the facts of every replica, at first all and then what is new, and tell
who they have lost. Asked for their counts, they answer. Either side may be started again:
workers go on with what they know, and come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from lb.endpoint import Endpoint, authority
from lb.fleet import Fleet
from lb.metrics import GAUGES
from lb.replicas import Replica
from lb.values import Values, merge

logger = logging.getLogger("lb")


# News of replicas is gathered for so long, so that a thousand polls are not a thousand lines.
_GATHER_S = 0.01
_ANSWER_TIMEOUT_S = 1.0
_RETRY_S = 0.1
_LINE_BYTES = 16 * 1024 * 1024


class Hub:
    """The control plane's end."""

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
        server = await asyncio.start_unix_server(self._serve, path, limit=_LINE_BYTES)
        self._fleet.on_change = self._tell
        try:
            yield
        finally:
            server.close()
            for worker in self._workers:
                worker.close()

    def gone(self, replicas: Iterable[Replica]) -> None:
        """Replicas have been taken out of the fleet."""
        if gone := [_address(replica.endpoint) for replica in replicas]:
            self._send_all({"gone": gone})

    async def all_left(self) -> None:
        """Wait until no worker is connected."""
        while self._workers:
            await asyncio.sleep(_RETRY_S)

    async def snapshots(self) -> list[Values]:
        """The counts of all workers, also of those that have ended."""
        await asyncio.gather(*(self._ask(worker) for worker in tuple(self._workers)))
        return [self._ended, *self._snapshots.values()]

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
            _send(worker, _news(self._fleet.replicas))
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
        elif (replica := self._fleet.find(_endpoint(message["lost"]))) is not None:
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

    def _tell(self, replica: Replica) -> None:
        if not self._news:
            asyncio.get_running_loop().call_later(_GATHER_S, self._tell_news)
        self._news[replica] = None

    def _tell_news(self) -> None:
        news, self._news = self._news, {}
        self._send_all(_news(news))

    def _send_all(self, message: Mapping[str, Any]) -> None:
        for worker in self._workers:
            _send(worker, message)


class Spoke:
    """A worker's end: a context that keeps `fleet` as the control plane knows it.

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
                    self._path, limit=_LINE_BYTES
                )
                while line := await reader.readline():
                    self._heed(self._writer, json.loads(line))
            self._writer = None
            await asyncio.sleep(_RETRY_S)

    def _heed(self, writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
        if "ask" in message:
            self._send_counts(writer)
        for news in message.get("replicas", ()):
            self._fleet.take(_endpoint(news["address"]), news["facts"])
        for address in message.get("gone", ()):
            replica = self._fleet.find(_endpoint(address))
            if replica is not None:
                self._fleet.remove(replica)
                self._forget(replica.endpoint)
        self._told.set()

    def _tell_lost(self, replica: Replica, reason: str) -> None:
        if self._writer is not None:
            _send(self._writer, {"lost": _address(replica.endpoint), "reason": reason})

    def _send_counts(self, writer: asyncio.StreamWriter) -> None:
        _send(writer, {"counts": self._counts()})


def _news(replicas: Iterable[Replica]) -> dict[str, Any]:
    return {
        "replicas": [
            {"address": _address(replica.endpoint), "facts": replica.facts()}
            for replica in replicas
        ]
    }


def _address(endpoint: Endpoint) -> list[str | int]:
    return [endpoint.host, endpoint.port]


def _endpoint(address: list[Any]) -> Endpoint:
    host, port = address
    return Endpoint(host, port, authority(host, port))


def _send(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    # json and not orjson: it knows infinity, which some of the times are.
    writer.write(json.dumps(message).encode() + b"\n")
