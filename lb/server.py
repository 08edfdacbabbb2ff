"""A balancer as a process: its socket, its event loop, its end."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import uvicorn
import uvloop
from starlette.types import ASGIApp

from lb.access_log import AccessLog
from lb.control import Status, create_control
from lb.counters import Counters
from lb.door import Door
from lb.endpoint import Endpoint
from lb.errors import UserError
from lb.exchange import Parts
from lb.fleet import Fleet
from lb.gateway import Gateway
from lb.generation import KEYS
from lb.journal import Journal
from lb.keys import KeyFile
from lb.policies import POLICIES
from lb.poller import Poller
from lb.replicas import Replica
from lb.retry_budget import RetryBudget
from lb.router import Router
from lb.settings import Settings
from lb.upstream import Upstream
from lb.values import Values
from lb.waiting import WaitingRoom

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket (port 0: any free one). Raises UserError when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UserError(f"--host {host!r} cannot be resolved: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} on {host} is in use, free it or choose another with --port"
        else:
            message = f"cannot listen on {host} port {port}: {error.strerror}"
        raise UserError(message) from None
    return listener


def serve(settings: Settings, listener: socket.socket) -> None:
    """Run until SIGTERM or SIGINT; what is under way then gets time to end."""

    async def until_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with serving(settings, listener):
            await stop.wait()

    uvloop.run(until_signal())


@asynccontextmanager
async def serving(settings: Settings, listener: socket.socket) -> AsyncIterator[None]:
    """A balancer on `listener`, which it closes at the end."""
    fleet = Fleet([Replica(endpoint) for endpoint in settings.endpoints])
    keys = None if settings.api_keys is None else KeyFile(settings.api_keys)
    upstream, counters, status = Upstream(settings.replica_key), Counters(), Status()
    log = None if settings.access_log is None else AccessLog(settings.access_log)
    chores = []
    if keys is not None:
        chores.append(keys.refresh)
    if log is not None:
        chores.append(log.flush)
    entry = POLICIES[settings.policy]
    policy = entry.make(Random(settings.seed), settings.poll_interval_s)
    key_of = KEYS[entry.key] if entry.key else None
    router = Router(fleet, policy, settings.admission.in_flight)
    parts = Parts(
        fleet=fleet,
        router=router,
        waiting=WaitingRoom(router, settings.admission),
        upstream=upstream,
        door=Door(keys, settings.replica_key),
        journal=Journal(counters, log),
        retries=RetryBudget(),
        patience=settings.patience,
        queue_s=settings.admission.queue_s,
        key_of=key_of,
    )
    poller = Poller(fleet.replicas, upstream, settings.poll_interval_s, Random(settings.seed))

    async def snapshots() -> list[Values]:
        return [counters.snapshot()]

    async with (
        poller,
        _control_plane(create_control(settings.policy, fleet, snapshots, status)) as control,
        Gateway(parts, control, settings.limits, chores) as gateway,
    ):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(gateway.connection, sock=listener, backlog=_BACKLOG)
        try:
            yield
        finally:
            status.draining = True
            server.close()
            await gateway.drain(settings.grace_s)
            upstream.close()
            if log is not None:
                log.close()


@asynccontextmanager
async def _control_plane(app: ASGIApp) -> AsyncIterator[Endpoint]:
    """FastAPI on uvicorn, behind the gateway: at a socket that only it knows."""
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        path = str(Path(folder) / "control")
        config = uvicorn.Config(
            app,
            uds=path,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            date_header=False,
            server_header=False,
        )
        server = _Uvicorn(config)
        task = asyncio.create_task(server.serve())
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        try:
            yield Endpoint("", 0, "control", unix=path)
        finally:
            server.should_exit = True
            await task


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the process that it is a part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
