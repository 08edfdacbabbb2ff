"""Sends the requests of a schedule and measures the answers."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Any, Protocol

from bench.load.client.answer import read_answer
from bench.load.client.api import Api
from bench.load.client.client import Client
from bench.load.client.eventloop import DirectLoop
from bench.load.client.exchange import Exchange, Failure
from bench.load.run.meter import Meter
from bench.processes.resources import allow_connections, allow_connections_up_to
from bench.records import (
    Connections,
    DriverFacts,
    ErrorKind,
    Instrument,
    PlannedRequest,
    Sample,
    Schedule,
    fail_incomplete,
)

REPLICA_HEADER = "x-lb-replica"
# In a closed loop, from a request that was refused to the next one. Without it a server that
# refuses at once, as beyond a limit of its rate, would get thousands of requests a second.
AFTER_FAILURE_S = 1.0


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

    `connections` are kept for further requests, or each is opened for one request. `api` says
    how requests are written.
    """

    schedule: Schedule
    prompts: Sequence[str]
    urls: Sequence[str]
    connections: Connections = "kept"
    api: Api = field(default_factory=Api)


class Ending(StrEnum):
    """How a drive came to its end."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"  # Ctrl-C
    LOST = "lost"  # a load process ended without its result
    RAN_DRY = "ran-dry"  # a closed loop used up its requests before its time


@dataclass(frozen=True, slots=True)
class DriveResult:
    """What was measured. `elapsed_s` is from the start to the last answer or abort.

    `started_s` is the start on the clock of time.monotonic(), from which all other times
    count; None if another program has measured by its own clock.

    `samples` are in the order of the schedule: one for every request of an open loop, or for
    every request that a closed loop came to. Requests that an interrupt kept from being sent
    have none. If several processes shared the load, `lost` has a line for each one whose
    samples are missing. `driver` says what measured it.

    After an interrupt nothing is raised: the caller of a drive that ended INTERRUPTED keeps
    the samples, then raises KeyboardInterrupt.
    """

    samples: tuple[Sample, ...]
    instrument: Instrument
    started_s: float | None
    elapsed_s: float
    ending: Ending
    lost: tuple[str, ...] = ()
    driver: DriverFacts = field(default_factory=DriverFacts)

    @property
    def cut_short(self) -> bool:
        return self.ending is not Ending.COMPLETE


@dataclass(slots=True, kw_only=True)
class Attempt(Exchange):
    """A request that was due at `scheduled_s` of time.monotonic(), whether sent or not."""

    planned: PlannedRequest
    scheduled_s: float

    def sample(self, start_s: float) -> Sample:
        """The sample of an attempt that has ended; its times count from `start_s`."""
        answer = read_answer(self)
        return answer.sample(
            self.planned,
            scheduled_s=self.scheduled_s - start_s,
            sent_s=None if self.sent_s is None else self.sent_s - start_s,
            chunk_s=tuple([at_s - start_s for at_s in answer.chunk_s]),
            replica=self.headers.get(REPLICA_HEADER),
        )


def run_load(load: Load, *, drain_timeout_s: float, connect: Connect | None = None) -> DriveResult:
    """Send every request of `load`; return when all have ended.

    An open loop sends at the scheduled times, independent of the answers. A closed loop
    keeps the schedule's `concurrency` of requests in flight until `duration_s`, then
    starts no more; after a request that failed, the next one waits AFTER_FAILURE_S. Requests
    without an answer `drain_timeout_s` after `duration_s` are aborted and count as TIMEOUT. Each
    call opens its own connections, so that no trial uses another's. `connect` makes the sender for
    a base URL; None means `Client`.

    Raises UserError for a malformed URL, or for a closed loop whose concurrency is more than
    the connections that this machine lets one process have. A server's failures are samples.
    """
    return run_together([load], drain_timeout_s=drain_timeout_s, connect=connect)[0]


def run_together(
    loads: Sequence[Load],
    *,
    drain_timeout_s: float,
    start: Callable[[], float] = monotonic,
    connect: Connect | None = None,
) -> tuple[DriveResult, ...]:
    """`run_load` for several loads at once; results in their order.

    `start` is called when everything is prepared; it returns the time of time.monotonic() from
    which times count. The instrument's readings are those of the process, and so the same in
    all results.
    """
    _make_room(loads)
    drives = [
        _Drive(load, connect or partial(Client, connections=load.connections, api=load.api))
        for load in loads
    ]
    with _no_garbage_collection(), asyncio.Runner(loop_factory=DirectLoop) as runner:
        runner.run(_all(drives, start(), drain_timeout_s))
    return tuple(drive.result for drive in drives)


async def _all(drives: Sequence[_Drive], start_s: float, drain_timeout_s: float) -> None:
    """Run all; the drives keep their results.

    A result that is returned is written out as text, twice, and thrown away (asyncio.Runner, as
    it looks at the handler of SIGINT).
    """
    tasks = [asyncio.create_task(drive.run(start_s, drain_timeout_s)) for drive in drives]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()


def _make_room(loads: Sequence[Load]) -> None:
    """Allow this process a connection for every stream that may be open at once."""
    schedules = [load.schedule for load in loads]
    concurrency = sum(schedule.concurrency or 0 for schedule in schedules)
    if concurrency:
        allow_connections(concurrency)
    # How many an open loop has at once depends on the server; rarely all.
    at_most = [len(one.requests) for one in schedules if one.concurrency is None]
    allow_connections_up_to(concurrency + sum(at_most))


class _Drive:
    """One run of one load; `run` is called once, and `result` is what it has measured."""

    result: DriveResult

    def __init__(self, load: Load, connect: Connect) -> None:
        self._schedule = load.schedule
        self._exact = load.api.exact_answers
        self._clients = {url: connect(url) for url in set(load.urls)}
        # By index of the request: its client, and the bytes to send.
        self._requests = {
            planned.index: (self._clients[url], self._clients[url].encode(planned, prompt))
            for planned, prompt, url in zip(
                load.schedule.requests, load.prompts, load.urls, strict=True
            )
        }
        self._attempts: list[Attempt] = []
        self._start_s = 0.0
        self._ending = Ending.COMPLETE

    async def run(self, start_s: float, drain_timeout_s: float) -> None:
        limit_s = self._schedule.duration_s + drain_timeout_s
        self._start_s = start_s
        meter = Meter()
        try:
            left_s = start_s + limit_s - monotonic()
            async with asyncio.timeout(left_s):
                await _sleep_until(start_s)
                await self._offer()
        except TimeoutError:
            self._add_unsent()
            self._abandon(f"no complete answer when the trial's {limit_s:g} s were over")
        except asyncio.CancelledError:
            self._ending = Ending.INTERRUPTED
            self._abandon("the trial was interrupted")
        elapsed_s = monotonic() - self._start_s
        instrument = meter.stop(
            [one.sent_s - one.scheduled_s for one in self._attempts if one.sent_s is not None]
        )
        for client in self._clients.values():
            await client.close()
        # Answers are parsed only now, when nothing is timed any more.
        samples = fail_incomplete(
            [attempt.sample(self._start_s) for attempt in self._attempts], exact=self._exact
        )
        try:
            await asyncio.sleep(0)  # raises for a Ctrl-C that came meanwhile
        except asyncio.CancelledError:
            self._ending = Ending.INTERRUPTED
        self.result = DriveResult(samples, instrument, self._start_s, elapsed_s, self._ending)

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
            tasks.create_task(self._fetch(self._attempt(planned, due_s)))

    async def _keep_busy(self, waiting: Iterator[PlannedRequest]) -> None:
        end_s = self._start_s + self._schedule.duration_s
        while (free_s := monotonic()) < end_s:
            planned = next(waiting, None)
            if planned is None:
                self._ending = Ending.RAN_DRY
                return
            attempt = self._attempt(planned, free_s)
            await self._fetch(attempt)
            if attempt.failure is not None or attempt.status != HTTPStatus.OK:
                await asyncio.sleep(min(AFTER_FAILURE_S, max(0.0, end_s - monotonic())))

    def _attempt(self, planned: PlannedRequest, scheduled_s: float) -> Attempt:
        attempt = Attempt(planned=planned, scheduled_s=scheduled_s)
        self._attempts.append(attempt)
        return attempt

    async def _fetch(self, attempt: Attempt) -> None:
        client, request = self._requests[attempt.planned.index]
        await client.fetch(request, attempt)

    def _add_unsent(self) -> None:
        """Count as attempts also the requests of an open loop that the deadline kept back."""
        if self._schedule.concurrency is None:
            for planned in self._schedule.requests[len(self._attempts) :]:
                self._attempt(planned, self._start_s + planned.at_s)

    def _abandon(self, why: str) -> None:
        for attempt in self._attempts:
            if not attempt.ended:
                attempt.failure = Failure(ErrorKind.TIMEOUT, why)


async def _sleep_until(due_s: float) -> None:
    """Sleep until `due_s`, late by a fraction of a millisecond; never early."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, DirectLoop)
    loop.direct.punctual_s = due_s
    while (left_s := due_s - monotonic()) > 0:
        await asyncio.sleep(left_s)
    loop.direct.punctual_s = math.inf


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Within the context no garbage is collected: it would delay all time stamps."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
