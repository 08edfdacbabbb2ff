"""The control plane: finds replicas, watches them, and tells the world about them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random

import uvicorn
from starlette.types import ASGIApp

from lb.board import Board
from lb.discovery.poller import Poller
from lb.discovery.roster import Roster
from lb.discovery.sources import Discovery
from lb.endpoint import Target
from lb.fleet import Fleet
from lb.periodic import every
from lb.replicas import Replica
from lb.settings import Settings
from lb.upstream import Upstream

_SWEEP_S = 1.0


@asynccontextmanager
async def watching(
    settings: Settings,
    fleet: Fleet,
    upstream: Upstream,
    gone: Callable[[Iterable[Replica]], None],
    board: Board | None = None,
) -> AsyncIterator[None]:
    """A context in which `fleet` follows discovery, and every replica in it is polled.

    Entering it waits a moment for the replicas' first answers. `gone` is called with
    replicas that have left for good.
    """
    roster = Roster(fleet, board)
    poller = Poller(fleet, upstream, settings.poll_interval_s, Random(settings.seed))

    def found(targets: tuple[Target, ...]) -> None:
        roster.reconcile(targets, time.monotonic())
        poller.follow()

    def sweep() -> None:
        now_s = time.monotonic()
        fleet.refresh(now_s)
        gone(roster.forget_drained(now_s))

    async with poller, Discovery(settings.source, found), every(_SWEEP_S, sweep):
        await poller.first_round()
        yield


@asynccontextmanager
async def http_at(app: ASGIApp, path: str) -> AsyncIterator[None]:
    """A context in which uvicorn serves `app` at a unix socket."""
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
        yield
    finally:
        server.should_exit = True
        await task


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the process that it is a part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
