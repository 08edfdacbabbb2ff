"""The data plane: passes requests of clients on to replicas, and answers back."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from random import Random

from lb.http.endpoint import Endpoint
from lb.http.keys import Authenticator, KeyFile
from lb.http.upstream.client import Upstream
from lb.observability.counters import Counters
from lb.observability.exposition import Values, put
from lb.observability.journal import Journal
from lb.observability.logs import AccessLog
from lb.observability.metrics import BREAKER
from lb.periodic import every
from lb.policies import POLICIES
from lb.processes.listening import Acceptor, offered
from lb.replicas.fleet import Fleet
from lb.routing.exchange import Components, Exchange
from lb.routing.gateway import Gateway
from lb.routing.metered import MeteredExchange
from lb.routing.queues import RequestQueues
from lb.routing.request_parser import KEYS
from lb.routing.router import RetryBudget, Router
from lb.settings import Settings

_SWEEP_S = 1.0


class DataPlane:
    """Serves clients from the replicas of `fleet`, over the connections of `upstream`."""

    def __init__(self, settings: Settings, fleet: Fleet, upstream: Upstream) -> None:
        self._settings = settings
        self._fleet = fleet
        self._upstream = upstream
        self._counters = Counters()
        self._keys = None if settings.api_keys is None else KeyFile(settings.api_keys)

    def counts(self) -> Values:
        """All counts since the start, and the present state of each breaker."""
        values = self._counters.snapshot()
        now_s = time.monotonic()
        for replica in self._fleet.replicas:
            put(values, (BREAKER.name, replica.name, replica.breaker.state(now_s).value), 1)
        return values

    def forget(self, endpoint: Endpoint) -> None:
        """A replica has been removed from the fleet: close its connections, drop its counts."""
        self._upstream.forget(endpoint)
        if not self._fleet.has(endpoint.name):
            self._counters.forget(endpoint.name)

    @asynccontextmanager
    async def serving(
        self, listeners: Sequence[socket.socket], control: Endpoint, forced: asyncio.Event
    ) -> AsyncIterator[None]:
        """A context in which clients of `listeners` are served; they are closed at the end.

        What replicas do not serve is passed on to the control plane at `control`. Listeners that
        share their port are offered to a balancer that replaces this one. At the end, clients
        are accepted for `drain_delay_s` more, then requests get `grace_s` to end. When `forced` is
        set, both end at once.
        """
        settings = self._settings
        log = None if settings.access_log is None else AccessLog(settings.access_log)
        components = self._components(log)
        exchange = MeteredExchange if settings.admission.fairness == "tokens" else Exchange
        gateway = Gateway(components, control, settings.limits, exchange)
        shared = listeners[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        self._fleet.on_change = lambda _: components.queues.dispatch()
        self._fleet.warm_up(time.monotonic())
        async with every(_SWEEP_S, lambda: self._sweep(gateway, components.queues, log)):
            acceptors = [Acceptor(listener, gateway.connection) for listener in listeners]
            try:
                with offered(listeners) if shared else nullcontext():
                    try:
                        yield
                    finally:
                        gateway.stop_keep_alive()
                        with suppress(TimeoutError):
                            await asyncio.wait_for(forced.wait(), settings.drain_delay_s)
            finally:
                for acceptor in acceptors:
                    await acceptor.close()
                await gateway.drain(settings.grace_s, forced)
                if log is not None:
                    log.close()

    def _components(self, log: AccessLog | None) -> Components:
        settings, fleet = self._settings, self._fleet
        entry = POLICIES[settings.policy]
        policy = entry.make(Random(settings.seed), settings.poll_interval_s)
        router = Router(fleet, policy, settings.admission)
        return Components(
            fleet=fleet,
            router=router,
            queues=RequestQueues(router, settings.admission, poll=fleet.row is not None),
            upstream=self._upstream,
            authenticator=Authenticator(self._keys, settings.replica_key),
            journal=Journal(self._counters, log),
            retries=RetryBudget(),
            timeouts=settings.timeouts,
            queue_s=settings.admission.queue_s,
            key_of=KEYS[entry.key] if entry.key else None,
            in_blocks=entry.cached,
        )

    def _sweep(self, gateway: Gateway, queues: RequestQueues, log: AccessLog | None) -> None:
        self._fleet.warm_up(time.monotonic())
        if self._fleet.row is not None:
            self._fleet.row.alive(time.monotonic_ns())
        gateway.expire()
        self._upstream.expire()
        queues.dispatch()
        if self._keys is not None:
            self._keys.refresh()
        if log is not None:
            log.flush()
