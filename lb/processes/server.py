"""Runs a balancer: in one process, or in one for the control plane and one for each worker."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

import uvloop

from lb.discovery.poller import Poller
from lb.discovery.roster import Roster, following
from lb.http.endpoint import Endpoint
from lb.http.upstream.client import Upstream
from lb.observability.exposition import Values
from lb.processes.control import ControlPlane
from lb.processes.dataplane import DataPlane
from lb.processes.folder import CONTROL, LINK, socket_folder
from lb.processes.link import LinkClient, LinkServer
from lb.processes.supervisor import Job, Supervisor
from lb.replicas.board import Board
from lb.replicas.fleet import Fleet
from lb.settings import Settings

# A worker hangs if its event loop has not run the sweep for this time.
_HUNG_NS = 30 * 10**9
# Time until workers are killed, beyond what draining may take.
_STOP_MARGIN_S = 5.0


class Stopping:
    """`requested` is set at the first request to stop, `forced` at the second.

    Between the two, requests that are under way may end. Each of `signals` is such a request.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()
        for number in signals:
            asyncio.get_running_loop().add_signal_handler(number, self.request)

    def on_end_of(self, pipe: int) -> None:
        """Stop when the process at the other end of `pipe` has ended."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(pipe)
            self.request()

        loop.add_reader(pipe, ended)

    def request(self) -> None:
        (self.forced if self.requested.is_set() else self.requested).set()


def serve(settings: Settings, listeners: Sequence[Sequence[socket.socket]]) -> None:
    """Run until SIGTERM or SIGINT, with a worker for each group of `listeners`.

    Requests then get time to end, until a second signal.
    """
    if len(listeners) == 1:
        uvloop.run(_serve_alone(settings, listeners[0]))
        return
    with socket_folder() as folder:
        cluster = _Cluster(settings, folder, Board(rows=len(listeners)), listeners)
        timeout_s = settings.drain_delay_s + settings.grace_s + _STOP_MARGIN_S
        Supervisor(cluster.jobs(), cluster.close_listeners, timeout_s).run()


async def _serve_alone(settings: Settings, listeners: Sequence[socket.socket]) -> None:
    stopping = Stopping(signal.SIGTERM, signal.SIGINT)
    async with serving(settings, listeners, stopping):
        await stopping.requested.wait()


@asynccontextmanager
async def serving(
    settings: Settings, listeners: Sequence[socket.socket], stopping: Stopping | None = None
) -> AsyncIterator[None]:
    """A context in which this process is a balancer on `listeners`, which are closed at the end."""
    fleet = Fleet(slow_start_s=settings.slow_start_s)
    upstream = Upstream(settings.replica_key, settings.trusted)
    data = DataPlane(settings, fleet, upstream)

    async def counts() -> list[Values]:
        return [data.counts()]

    control = ControlPlane(settings.policy, fleet, counts)
    with socket_folder() as folder:
        path = str(folder / CONTROL)
        async with (
            following(
                settings.source, Roster(fleet), _poller(settings, fleet, upstream), data.forget
            ),
            control.serving(path),
            data.serving(listeners, _control_endpoint(path), (stopping or Stopping()).forced),
        ):
            try:
                yield
            finally:
                control.draining = True
    upstream.close()


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What the processes of a balancer share: made before they are forked."""

    settings: Settings
    folder: Path
    board: Board
    listeners: Sequence[Sequence[socket.socket]]

    def jobs(self) -> list[Job]:
        """The control plane first, then the workers."""
        workers = [
            Job(
                f"worker {index}",
                partial(self._run_worker, index),
                ended=partial(self.board.row, index),
                hung=partial(self._hung, index),
            )
            for index in range(len(self.listeners))
        ]
        return [Job("control plane", self._run_control), *workers]

    def close_listeners(self, but: int | None = None) -> None:
        """Close this process's copies, without those of worker `but`.

        The system closes a listening socket when its last copy is closed.
        """
        for index, listeners in enumerate(self.listeners):
            for listener in listeners if index != but else ():
                listener.close()

    def _hung(self, index: int) -> bool:
        alive_ns = self.board.alive_ns(index)
        return alive_ns > 0 and time.monotonic_ns() > alive_ns + _HUNG_NS

    def _run_control(self, lifeline: int) -> None:
        self.close_listeners()
        uvloop.run(self._control(lifeline))

    def _run_worker(self, index: int, lifeline: int) -> None:
        self.close_listeners(but=index)
        uvloop.run(self._worker(index, lifeline))

    async def _control(self, lifeline: int) -> None:
        settings, stopping = self.settings, _stopping(lifeline)
        fleet, upstream = Fleet(board=self.board), Upstream(settings.replica_key, settings.trusted)
        roster, poller = Roster(fleet, self.board), _poller(settings, fleet, upstream)
        link = LinkServer(fleet)
        control = ControlPlane(settings.policy, fleet, link.counts)

        def forget(endpoint: Endpoint) -> None:
            link.forget(endpoint)
            upstream.forget(endpoint)

        async with (
            following(settings.source, roster, poller, forget),
            link.listening(str(self.folder / LINK)),
            control.serving(str(self.folder / CONTROL)),
        ):
            await stopping.requested.wait()
            control.draining = True
            await link.all_disconnected()
        upstream.close()

    async def _worker(self, index: int, lifeline: int) -> None:
        stopping, seed = _stopping(lifeline), self.settings.seed
        # With the same seed, all workers would break ties alike.
        settings = replace(self.settings, seed=None if seed is None else seed + index)
        fleet = Fleet(board=self.board, index=index, slow_start_s=settings.slow_start_s)
        upstream = Upstream(settings.replica_key, settings.trusted)
        data = DataPlane(settings, fleet, upstream)
        control = _control_endpoint(str(self.folder / CONTROL))
        async with (
            LinkClient(fleet, str(self.folder / LINK), data.counts, data.forget),
            data.serving(self.listeners[index], control, stopping.forced),
        ):
            await stopping.requested.wait()
        upstream.close()


def _poller(settings: Settings, fleet: Fleet, upstream: Upstream) -> Poller:
    return Poller(fleet, upstream, settings.poll_interval_s, Random(settings.seed))


def _control_endpoint(path: str) -> Endpoint:
    return Endpoint("", 0, "control", unix=path)


def _stopping(lifeline: int) -> Stopping:
    stopping = Stopping(signal.SIGTERM)
    stopping.on_end_of(lifeline)
    return stopping
