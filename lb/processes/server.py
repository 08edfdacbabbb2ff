"""A balancer in one process: both planes on one event loop."""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import uvloop

from lb.board import Board
from lb.endpoint import Endpoint
from lb.fleet import Fleet
from lb.observability.counters import Counters
from lb.observability.exposition import Values
from lb.processes.control import Status, create_control, http_at, watching
from lb.processes.dataplane import data_plane, snapshot
from lb.processes.link import Hub, Spoke
from lb.processes.stopping import Stopping
from lb.processes.supervisor import Job, Supervisor
from lb.replicas import Replica
from lb.settings import Settings
from lb.upstream import Upstream


def serve(settings: Settings, listeners: Sequence[Sequence[socket.socket]]) -> None:
    """Run until SIGTERM or SIGINT, with a worker for each of the groups of `listeners`.

    What is under way then gets time to end; a second signal cuts that short.
    """
    if len(listeners) > 1:
        serve_cluster(settings, listeners)
    else:
        uvloop.run(_serve_until_signal(settings, listeners[0]))


async def _serve_until_signal(settings: Settings, listeners: Sequence[socket.socket]) -> None:
    stopping = Stopping()
    stopping.on_signals([signal.SIGTERM, signal.SIGINT])
    async with serving(settings, listeners, stopping):
        await stopping.asked.wait()


@asynccontextmanager
async def serving(
    settings: Settings, listeners: Sequence[socket.socket], stopping: Stopping | None = None
) -> AsyncIterator[None]:
    """A balancer on `listeners`, which it closes at the end."""
    stopping = stopping or Stopping()
    fleet = Fleet(slow_start_s=settings.slow_start_s)
    upstream = Upstream(settings.replica_key, settings.trusted)
    counters, status = Counters(), Status()

    def gone(replicas: Iterable[Replica]) -> None:
        for replica in replicas:
            upstream.forget(replica.endpoint)
            if not fleet.has(replica.name):
                counters.forget(replica.name)

    async def snapshots() -> list[Values]:
        return [snapshot(counters, fleet)]

    app = create_control(settings.policy, fleet, snapshots, status)
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        path = str(Path(folder) / "control")
        control = Endpoint("", 0, "control", unix=path)
        async with (
            watching(settings, fleet, upstream, gone),
            http_at(app, path),
            data_plane(settings, fleet, upstream, counters, listeners, control, stopping),
        ):
            try:
                yield
            finally:
                status.draining = True
    upstream.close()


# A worker that gave no sign of life for so long serves nobody any more.
_HUNG_NS = 30 * 10**9
# Beyond the time that draining may take.
_STOP_MARGIN_S = 5.0


def serve_cluster(settings: Settings, listeners: Sequence[Sequence[socket.socket]]) -> None:
    """Run a worker on each of the groups of `listeners` until SIGTERM or SIGINT."""
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        shared = _Shared(settings, Path(folder), Board(rows=len(listeners)), listeners)
        jobs = [Job("control plane", shared.run_control)]
        jobs += [
            Job(
                f"worker {index}",
                partial(shared.run_worker, index),
                ended=partial(shared.board.row, index),
                hung=partial(shared.hung, index),
            )
            for index in range(len(listeners))
        ]
        patience_s = settings.drain_delay_s + settings.grace_s + _STOP_MARGIN_S
        Supervisor(jobs, shared.close_listeners, patience_s).run()


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all processes have in common from before they were forked."""

    settings: Settings
    folder: Path
    board: Board
    listeners: Sequence[Sequence[socket.socket]]

    @property
    def control(self) -> Endpoint:
        return Endpoint("", 0, "control", unix=str(self.folder / "control"))

    @property
    def link(self) -> str:
        return str(self.folder / "link")

    def hung(self, index: int) -> bool:
        alive_ns = self.board.alive_ns(index)
        return alive_ns > 0 and time.monotonic_ns() > alive_ns + _HUNG_NS

    def close_listeners(self, but: int | None = None) -> None:
        """Close this process's own, except for those of worker `but`.

        A worker's are to be the last ones: closing them is not noticed before.
        """
        for index, listeners in enumerate(self.listeners):
            for listener in listeners if index != but else ():
                listener.close()

    def run_control(self, lifeline: int) -> None:
        self.close_listeners()
        uvloop.run(self._control(lifeline))

    def run_worker(self, index: int, lifeline: int) -> None:
        self.close_listeners(but=index)
        uvloop.run(self._worker(index, lifeline))

    async def _control(self, lifeline: int) -> None:
        stopping = _stopping(lifeline)
        fleet, upstream, status = (
            Fleet(board=self.board),
            Upstream(self.settings.replica_key, self.settings.trusted),
            Status(),
        )
        hub = Hub(fleet)

        def gone(replicas: Iterable[Replica]) -> None:
            left = list(replicas)
            hub.gone(left)
            for replica in left:
                upstream.forget(replica.endpoint)

        assert self.control.unix is not None
        app = create_control(self.settings.policy, fleet, hub.snapshots, status)
        async with (
            watching(self.settings, fleet, upstream, gone, self.board),
            hub.listening(self.link),
            http_at(app, self.control.unix),
        ):
            await stopping.asked.wait()
            status.draining = True
            await hub.all_left()
        upstream.close()

    async def _worker(self, index: int, lifeline: int) -> None:
        listeners, stopping = self.listeners[index], _stopping(lifeline)
        seed = self.settings.seed
        # With the same one, all workers would break ties alike, at the same moment.
        settings = replace(self.settings, seed=None if seed is None else seed + index)
        fleet = Fleet(board=self.board, index=index, slow_start_s=settings.slow_start_s)
        upstream, counters = Upstream(settings.replica_key, settings.trusted), Counters()

        def counts() -> Values:
            return snapshot(counters, fleet)

        def forget(endpoint: Endpoint) -> None:
            upstream.forget(endpoint)
            if not fleet.has(endpoint.name):
                counters.forget(endpoint.name)

        async with (
            Spoke(fleet, self.link, counts, forget),
            data_plane(settings, fleet, upstream, counters, listeners, self.control, stopping),
        ):
            await stopping.asked.wait()
        upstream.close()


def _stopping(lifeline: int) -> Stopping:
    stopping = Stopping()
    stopping.on_signals([signal.SIGTERM])
    stopping.on_end_of(lifeline)
    return stopping
