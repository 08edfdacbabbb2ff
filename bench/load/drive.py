"""Send the requests of a schedule and measure what becomes of them."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Protocol

from bench.load.client import Client
from bench.load.eventloop import DirectLoop
from bench.load.exchange import Exchange, Failure
from bench.load.flight import Flight
from bench.load.meter import Meter
from bench.load.outcome import DriveResult, Ending, Tally
from bench.processes.resources import allow_connections, allow_connections_up_to
from bench.records import Connections, ErrorKind, PlannedRequest, Schedule, fail_incomplete

_REPORT_EVERY_S = 0.5

Report = Callable[[Tally], None]


class Sender(Protocol):
    """Sends requests to one base URL; see `Client`."""

    def encode(self, planned: PlannedRequest, prompt: str) -> Any:
        """What `fetch` sends for `planned`, made ahead."""
        ...

    async def fetch(self, request: Any, exchange: Exchange) -> None:
        """Send `request` and fill `exchange` until it has ended. Never raises for the server."""
        ...

    async def close(self) -> None:
        """Close the idle connections."""
        ...


Connect = Callable[[str], Sender]
"""Makes the sender for a base URL."""


@dataclass(frozen=True, slots=True)
class Load:
    """A schedule, and for each of its requests a prompt and the base URL that it goes to.

    `connections` are kept for further requests, or each is opened for one request.
    """

    schedule: Schedule
    prompts: Sequence[str]
    urls: Sequence[str]
    connections: Connections = "kept"


def run_load(
    load: Load,
    *,
    drain_timeout_s: float,
    on_progress: Report | None = None,
    start: Callable[[], float] = monotonic,
    connect: Connect | None = None,
) -> DriveResult:
    """Send every request of `load`; return when all have ended.

    An open loop sends at the scheduled times whatever the answers do. A closed
    loop keeps the schedule's `concurrency` of requests in flight until `duration_s`, then
    starts no more. What is unanswered `drain_timeout_s` after `duration_s` is
    aborted and counts as TIMEOUT. Connections are opened anew for each call, so
    that no trial inherits another's. `on_progress` is called twice a second by
    the measuring loop and must return at once. `start` is called when everything is
    prepared, and gives the instant of time.monotonic() from which times count. `connect`
    makes what sends to a base URL, a `Client` if None.

    Raises UserError for a malformed URL, or a closed loop with more slots than this machine
    lets one process have connections; failures of a server are samples.
    """
    _make_room([load])
    drive = _Drive(load, connect or _client_for(load))
    _run(lambda: drive.run(start(), drain_timeout_s, on_progress or _silent))
    return drive.result


def run_together(
    loads: Sequence[Load], *, drain_timeout_s: float, start: Callable[[], float] = monotonic
) -> tuple[DriveResult, ...]:
    """`run_load` for several loads at once; results in their order.

    The instrument's own figures are those of the process and so alike in all of them.
    """
    _make_room(loads)
    drives = [_Drive(load, _client_for(load)) for load in loads]
    _run(lambda: _all(drives, start(), drain_timeout_s))
    return tuple(drive.result for drive in drives)


def _client_for(load: Load) -> Connect:
    return partial(Client, connections=load.connections)


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` in a loop of its own.

    It returns nothing: the standard library writes a result out as text, twice, and throws
    it away (asyncio.Runner, as it looks at the handler of SIGINT).
    """
    with _no_garbage_collection(), asyncio.Runner(loop_factory=DirectLoop) as runner:
        runner.run(main())


async def _all(drives: Sequence[_Drive], start_s: float, drain_timeout_s: float) -> None:
    tasks = [asyncio.create_task(drive.run(start_s, drain_timeout_s, _silent)) for drive in drives]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()


def _silent(_: Tally) -> None:
    """Report nothing."""


def _make_room(loads: Sequence[Load]) -> None:
    """A connection for every stream that may be open at once."""
    schedules = [load.schedule for load in loads]
    slots = sum(schedule.concurrency or 0 for schedule in schedules)
    if slots:
        allow_connections(slots)
    # How many an open loop has at once is up to the server. Rarely all.
    at_most = [len(one.requests) for one in schedules if one.concurrency is None]
    allow_connections_up_to(slots + sum(at_most))


class _Drive:
    """One run of one load; `run` is called once."""

    def __init__(self, load: Load, connect: Connect) -> None:
        self._schedule = load.schedule
        self._clients = {url: connect(url) for url in set(load.urls)}
        # By index: where a request goes and what is sent.
        self._requests = {
            planned.index: (self._clients[url], self._clients[url].encode(planned, prompt))
            for planned, prompt, url in zip(
                load.schedule.requests, load.prompts, load.urls, strict=True
            )
        }
        self._flights: list[Flight] = []
        self._start_s = 0.0
        self._ending = Ending.COMPLETE
        self._result: DriveResult | None = None

    @property
    def result(self) -> DriveResult:
        """What `run` has measured."""
        assert self._result is not None, "it has not run"
        return self._result

    async def run(self, start_s: float, drain_timeout_s: float, on_progress: Report) -> None:
        limit_s = self._schedule.duration_s + drain_timeout_s
        self._start_s = start_s
        meter = Meter()
        try:
            left_s = start_s + limit_s - monotonic()
            async with asyncio.timeout(left_s), asyncio.TaskGroup() as tasks:
                reporter = tasks.create_task(self._report(on_progress))
                await _sleep_until(start_s)
                await self._offer()
                reporter.cancel()
        except TimeoutError:
            self._add_unsent()
            self._abandon(f"no complete answer when the trial's {limit_s:g} s were over")
        except asyncio.CancelledError:
            self._ending = Ending.INTERRUPTED
            self._abandon("the trial was interrupted")
        elapsed_s = monotonic() - self._start_s
        instrument = meter.stop(
            [lag for flight in self._flights if (lag := flight.lag_s) is not None]
        )
        for client in self._clients.values():
            await client.close()
        # Only now, when nothing is timed any more, is read what the answers say.
        samples = fail_incomplete([flight.sample(self._start_s) for flight in self._flights])
        try:
            await asyncio.sleep(0)  # a Ctrl-C that came meanwhile is told only here
        except asyncio.CancelledError:
            self._ending = Ending.INTERRUPTED
        self._result = DriveResult(samples, instrument, self._start_s, elapsed_s, self._ending)

    async def _offer(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._schedule.concurrency is None:
                await self._send_on_time(tasks)
            else:
                waiting = iter(self._schedule.requests)
                for _ in range(self._schedule.concurrency):
                    tasks.create_task(self._keep_busy(waiting))

    async def _send_on_time(self, tasks: asyncio.TaskGroup) -> None:
        for planned in self._schedule.requests:
            due_s = self._start_s + planned.at_s
            await _sleep_until(due_s)
            tasks.create_task(self._fetch(self._flight(planned, due_s)))

    async def _keep_busy(self, waiting: Iterator[PlannedRequest]) -> None:
        end_s = self._start_s + self._schedule.duration_s
        while (free_s := monotonic()) < end_s:
            planned = next(waiting, None)
            if planned is None:
                self._ending = Ending.RAN_DRY
                return
            await self._fetch(self._flight(planned, free_s))

    def _flight(self, planned: PlannedRequest, scheduled_s: float) -> Flight:
        flight = Flight(planned, scheduled_s)
        self._flights.append(flight)
        return flight

    async def _fetch(self, flight: Flight) -> None:
        client, request = self._requests[flight.planned.index]
        await client.fetch(request, flight.exchange)

    def _add_unsent(self) -> None:
        """Count as attempts also what the deadline kept an open loop from sending."""
        if self._schedule.concurrency is None:
            for planned in self._schedule.requests[len(self._flights) :]:
                self._flight(planned, self._start_s + planned.at_s)

    def _abandon(self, why: str) -> None:
        for flight in self._flights:
            if not flight.exchange.ended:
                flight.exchange.failure = Failure(ErrorKind.TIMEOUT, why)

    async def _report(self, on_progress: Report) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            ended = sum(flight.exchange.ended for flight in self._flights)
            on_progress(Tally(monotonic() - self._start_s, len(self._flights), ended))


async def _sleep_until(due_s: float) -> None:
    """Sleep to within a fraction of a millisecond; never wakes early."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, DirectLoop)
    loop.direct.punctual_s = due_s
    while (left_s := due_s - monotonic()) > 0:
        await asyncio.sleep(left_s)
    loop.direct.punctual_s = math.inf


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection would hold up all time stamps for as long as it takes."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
