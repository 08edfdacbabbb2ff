"""The data plane: clients' requests, to the replicas and back."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from random import Random

from lb.door import Door
from lb.endpoint import Endpoint
from lb.exchange import Parts
from lb.fleet import Fleet
from lb.gateway import Gateway
from lb.generation import KEYS
from lb.keys import KeyFile
from lb.observability.counters import Counters
from lb.observability.exposition import Values, put
from lb.observability.journal import Journal
from lb.observability.logs import AccessLog
from lb.observability.metrics import BREAKER
from lb.periodic import every
from lb.policies import POLICIES
from lb.processes.accepting import Acceptor
from lb.processes.listening import offered
from lb.processes.stopping import Stopping
from lb.retry_budget import RetryBudget
from lb.router import Router
from lb.settings import Settings
from lb.upstream import Upstream
from lb.waiting import WaitingRoom

_SWEEP_S = 1.0


@asynccontextmanager
async def data_plane(
    settings: Settings,
    fleet: Fleet,
    upstream: Upstream,
    counters: Counters,
    listeners: Sequence[socket.socket],
    control: Endpoint,
    stopping: Stopping,
) -> AsyncIterator[None]:
    """A context in which clients of `listeners` are served; they are closed at the end.

    Those that share a port are offered to a balancer that comes to replace this one.
    Leaving the context drains: for `drain_delay_s` clients are still let in, then nobody is, and
    what is under way gets `grace_s` to end.
    """
    keys = None if settings.api_keys is None else KeyFile(settings.api_keys)
    log = None if settings.access_log is None else AccessLog(settings.access_log)
    entry = POLICIES[settings.policy]
    policy = entry.make(Random(settings.seed), settings.poll_interval_s)
    router = Router(fleet, policy, settings.admission)
    waiting = WaitingRoom(router, settings.admission, watchful=fleet.row is not None)
    parts = Parts(
        fleet=fleet,
        router=router,
        waiting=waiting,
        upstream=upstream,
        door=Door(keys, settings.replica_key),
        journal=Journal(counters, log),
        retries=RetryBudget(),
        patience=settings.patience,
        queue_s=settings.admission.queue_s,
        key_of=KEYS[entry.key] if entry.key else None,
    )
    gateway = Gateway(parts, control, settings.limits)

    def sweep() -> None:
        fleet.warm_up(time.monotonic())
        if fleet.row is not None:
            fleet.row.alive(time.monotonic_ns())
        gateway.expire()
        upstream.expire()
        waiting.call()
        if keys is not None:
            keys.refresh()
        if log is not None:
            log.flush()

    fleet.on_change = lambda _: waiting.call()
    fleet.warm_up(time.monotonic())
    async with every(_SWEEP_S, sweep):
        acceptors = [Acceptor(listener, gateway.connection) for listener in listeners]
        shared = listeners[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        try:
            with offered(listeners) if shared else nullcontext():
                try:
                    yield
                finally:
                    gateway.leave()
                    await stopping.wait_hurried(settings.drain_delay_s)
        finally:
            for acceptor in acceptors:
                await acceptor.close()
            await gateway.drain(settings.grace_s, stopping.hurried)
            if log is not None:
                log.close()


def snapshot(counters: Counters, fleet: Fleet) -> Values:
    """What one worker has counted, and what it thinks of the replicas."""
    values = counters.snapshot()
    now_s = time.monotonic()
    for replica in fleet.replicas:
        put(values, (BREAKER.name, replica.name, replica.breaker.state(now_s).value), 1)
    return values
