"""A balancer in one process: both planes on one event loop."""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from lb.endpoint import Endpoint
from lb.fleet import Fleet
from lb.observability.counters import Counters
from lb.observability.gauges import snapshot
from lb.observability.values import Values
from lb.processes.cluster import serve_cluster
from lb.processes.control import Status, create_control
from lb.processes.controlplane import http_at, watching
from lb.processes.dataplane import data_plane
from lb.processes.stopping import Stopping
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
