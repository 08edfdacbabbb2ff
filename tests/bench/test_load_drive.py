"""Driving a schedule: open loops do not wait, closed loops keep their number."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from time import monotonic
from typing import Any

import pytest

from bench.errors import UserError
from bench.load.client.client import Client
from bench.load.client.exchange import Exchange, Failure
from bench.load.run.drive import Ending, Load, run_load
from bench.records import Connections, ErrorKind, PlannedRequest
from tests.bench.load_source import (
    ANSWER,
    CHUNKED,
    LAST_CHUNK,
    Call,
    chunk,
    closed,
    drive,
    opened,
    source,
)

pytestmark = [pytest.mark.slow, pytest.mark.serial]

WHOLE = CHUNKED + chunk(ANSWER) + LAST_CHUNK


async def answer(call: Call) -> None:
    await call.write(WHOLE)


async def never_answer(call: Call) -> None:
    await call.hang()


def prompts(count: int) -> list[str]:
    return [f"prompt {index}" for index in range(count)]


def test_an_open_loop_does_not_wait_for_a_server_that_stalls() -> None:
    async def stall(call: Call) -> None:
        await asyncio.sleep(1.0)
        await call.write(WHOLE)

    at_s = [0.02 * index for index in range(25)]
    with source(stall) as served:
        result = drive(opened(at_s, 0.5), url=served.url, prompts=prompts(25), drain_timeout_s=20)
    assert [sample.scheduled_s for sample in result.samples] == pytest.approx(at_s)
    assert all(sample.ok for sample in result.samples)
    sent_s = [sample.sent_s for sample in result.samples if sample.sent_s is not None]
    # Whoever waits for the first answer sends the second a second late.
    assert max(sent - due for sent, due in zip(sent_s, at_s, strict=True)) < 0.5
    assert min(sent - due for sent, due in zip(sent_s, at_s, strict=True)) >= 0
    assert all(s.first_token_s is not None and s.first_token_s > 1.0 for s in result.samples)
    assert result.ending is Ending.COMPLETE


def test_prompts_go_out_in_the_order_of_the_schedule() -> None:
    with source(answer) as served:
        schedule = opened([0.0, 0.03, 0.06], 0.1)
        drive(schedule, url=served.url, prompts=prompts(3), drain_timeout_s=20)
    assert [call.prompt for call in served.calls] == prompts(3)


def test_every_request_goes_to_its_own_server() -> None:
    schedule = opened([0.0, 0.03, 0.06, 0.09], 0.1)
    with source(answer) as first, source(answer) as second:
        urls = [first.url, second.url, second.url, first.url]
        result = run_load(Load(schedule, prompts(4), urls), drain_timeout_s=20)
    assert all(sample.ok for sample in result.samples)
    assert [call.prompt for call in first.calls] == ["prompt 0", "prompt 3"]
    assert [call.prompt for call in second.calls] == ["prompt 1", "prompt 2"]


@pytest.mark.parametrize(("connections", "opened_for"), [("kept", 1), ("per-request", 3)])
def test_connections_are_kept_or_opened_for_each_request(
    connections: Connections, opened_for: int
) -> None:
    with source(answer) as served:
        # One slot: each request follows the answer to the one before.
        schedule = closed(3, concurrency=1, duration_s=10.0)
        load = Load(schedule, prompts(3), [served.url] * 3, connections)
        result = run_load(load, drain_timeout_s=20)
    assert [sample.ok for sample in result.samples] == [True] * 3
    assert served.connections == opened_for
    told = [b"Connection: close\r\n" in call.head for call in served.calls]
    assert told == [connections == "per-request"] * 3


def test_a_prompt_for_every_request_is_required() -> None:
    with pytest.raises(ValueError, match="shorter"):
        drive(opened([0.0, 0.1], 0.2), url="http://x", prompts=["one"], drain_timeout_s=1)


def test_a_closed_loop_keeps_exactly_its_concurrency_in_flight() -> None:
    most = now = 0
    four = asyncio.Barrier(4)

    async def answer_four_at_a_time(call: Call) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        # With fewer than four in flight this waits for ever, and the deadline passes.
        await four.wait()
        now -= 1
        await answer(call)

    with source(answer_four_at_a_time) as served:
        result = drive(
            closed(40, concurrency=4, duration_s=15.0),
            url=served.url,
            prompts=prompts(40),
            drain_timeout_s=1,
        )
    assert [sample.error for sample in result.samples] == [None] * 40
    assert most == 4


def test_a_closed_loop_starts_nothing_after_its_time_but_waits_for_what_it_started() -> None:
    async def slow_answer(call: Call) -> None:
        await asyncio.sleep(0.2)
        await answer(call)

    with source(slow_answer) as served:
        result = drive(
            closed(1000, concurrency=2, duration_s=0.5),
            url=served.url,
            prompts=prompts(1000),
            drain_timeout_s=20,
        )
    assert [sample.index for sample in result.samples] == list(range(len(served.calls)))
    assert all(sample.ok and sample.scheduled_s < 0.5 for sample in result.samples)
    assert result.elapsed_s >= 0.5
    assert result.ending is Ending.COMPLETE


def test_a_closed_loop_that_runs_dry_is_cut_short() -> None:
    with source(answer) as served:
        result = drive(
            closed(5, concurrency=2, duration_s=30.0),
            url=served.url,
            prompts=prompts(5),
            drain_timeout_s=20,
        )
    assert len(result.samples) == 5
    assert result.ending is Ending.RAN_DRY
    assert result.cut_short
    assert result.elapsed_s < 30


def test_a_server_that_refuses_at_once_is_not_asked_again_at_once() -> None:
    async def refuse(call: Call) -> None:
        await call.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")

    with source(refuse) as served:
        result = drive(
            closed(1000, concurrency=2, duration_s=0.5),
            url=served.url,
            prompts=prompts(1000),
            drain_timeout_s=20,
        )
    assert [sample.error for sample in result.samples] == [ErrorKind.RATE_LIMITED] * 2
    assert result.ending is Ending.COMPLETE


@pytest.mark.parametrize("concurrency", [None, 2])
def test_what_is_unanswered_when_the_drain_is_over_timed_out(concurrency: int | None) -> None:
    schedule = opened([0.0, 0.1], 0.2) if concurrency is None else closed(9, concurrency, 0.2)
    with source(never_answer) as served:
        result = drive(
            schedule,
            url=served.url,
            prompts=prompts(len(schedule.requests)),
            drain_timeout_s=0.2,
        )
    assert [sample.error for sample in result.samples] == [ErrorKind.TIMEOUT] * 2
    assert all(sample.sent_s is not None for sample in result.samples)
    assert 0.35 < result.elapsed_s < 10
    assert result.ending is Ending.COMPLETE


def test_a_second_try_that_hangs_timed_out() -> None:
    async def answer_reset_hang(call: Call) -> None:
        match len(served.calls):
            case 1:
                await answer(call)
            case 2:
                call.reset()
            case _:
                await call.hang()

    with source(answer_reset_hang) as served:
        result = drive(
            opened([0.0, 0.2], 0.3), url=served.url, prompts=prompts(2), drain_timeout_s=0.5
        )
    assert len(served.calls) == 3
    assert [sample.error for sample in result.samples] == [None, ErrorKind.TIMEOUT]


def test_the_samples_of_a_healthy_half_survive_a_hanging_half() -> None:
    async def hang_on_odd_ones(call: Call) -> None:
        await (answer(call) if int(call.prompt.split()[1]) % 2 == 0 else never_answer(call))

    with source(hang_on_odd_ones) as served:
        result = drive(
            opened([0.01 * index for index in range(10)], 0.2),
            url=served.url,
            prompts=prompts(10),
            drain_timeout_s=0.5,
        )
    assert [sample.ok for sample in result.samples] == [True, False] * 5


@pytest.mark.usefixtures("ctrl_c_works")
def test_ctrl_c_keeps_what_was_measured_and_says_so() -> None:
    answered = threading.Event()

    async def one_then_ctrl_c(call: Call) -> None:
        if call.prompt == "prompt 0":
            await answer(call)
        else:
            os.kill(os.getpid(), signal.SIGINT)
            answered.set()
            await never_answer(call)

    with source(one_then_ctrl_c) as served:
        result = drive(
            opened([0.0, 0.2, 25.0], 30.0),
            url=served.url,
            prompts=prompts(3),
            drain_timeout_s=5,
        )
    assert answered.is_set()
    assert result.ending is Ending.INTERRUPTED
    assert result.cut_short
    assert [sample.error for sample in result.samples] == [None, ErrorKind.TIMEOUT]
    assert result.samples[1].detail == "the trial was interrupted"
    assert result.elapsed_s < 20


class Answered:
    """A sender whose every request has been answered already, by the headers given."""

    def __init__(self, headers: dict[str, str], failure: Failure | None = None) -> None:
        self._headers = headers
        self._failure = failure

    def encode(self, planned: PlannedRequest, prompt: str) -> None:
        """Nothing is sent."""

    async def fetch(self, request: None, exchange: Exchange) -> None:
        exchange.headers, exchange.failure = self._headers, self._failure
        exchange.complete = self._failure is None

    async def close(self) -> None:
        """Nothing is open."""


class CtrlC(dict[str, str]):
    """Headers that the user interrupts the reading of."""

    def get(self, key: str, default: Any = None) -> Any:
        signal.raise_signal(signal.SIGINT)
        return default


@pytest.mark.usefixtures("ctrl_c_works")
def test_ctrl_c_while_answers_are_read_keeps_them_and_is_not_forgotten() -> None:
    load = Load(opened([0.0], 0.01), ["hello"], ["http://x"])
    result = run_load(load, drain_timeout_s=20, connect=lambda _: Answered(CtrlC()))
    assert len(result.samples) == 1
    assert result.ending is Ending.INTERRUPTED


class Shy(str):
    """Text that must not be written out."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise AssertionError("a result with millions of times was written out as text")


def test_results_are_not_written_out_as_text_on_the_way() -> None:
    failed = Answered({}, Failure(ErrorKind.CONNECT, Shy("no route")))
    load = Load(opened([0.0], 0.01), ["hello"], ["http://x"])
    result = run_load(load, drain_timeout_s=20, connect=lambda _: failed)
    assert result.samples[0].error is ErrorKind.CONNECT


def test_a_server_that_is_gone_fails_every_request_and_ends_in_time() -> None:
    with source(answer) as served:
        pass
    result = drive(
        opened([0.0, 0.05, 0.1], 0.2), url=served.url, prompts=prompts(3), drain_timeout_s=20
    )
    assert [sample.error for sample in result.samples] == [ErrorKind.CONNECT] * 3
    assert result.elapsed_s < 10


def test_requests_that_the_deadline_kept_from_being_sent_are_attempts_too() -> None:
    # A drain below zero stands for a machine that slept through the trial's end.
    with source(answer) as served:
        result = drive(
            opened([0.0, 0.9], 1.0), url=served.url, prompts=prompts(2), drain_timeout_s=-0.5
        )
    assert [sample.error for sample in result.samples] == [None, ErrorKind.TIMEOUT]
    assert result.samples[1].sent_s is None


class Hog(Client):
    """Keeps the event loop busy for 0.15 s before each request."""

    async def fetch(self, request: bytes, exchange: Exchange) -> None:
        until_s = monotonic() + 0.15
        while monotonic() < until_s:
            pass
        await super().fetch(request, exchange)


def test_the_instrument_reports_on_itself() -> None:
    with source(answer) as served:
        schedule = opened([0.25 * index for index in range(4)], 1.0)
        load = Load(schedule, prompts(4), [served.url] * 4)
        calm = run_load(load, drain_timeout_s=20).instrument
        hogged = run_load(load, drain_timeout_s=20, connect=Hog).instrument
    assert calm.cpu_share is not None
    assert 0 < calm.cpu_share < 1.5
    assert calm.dispatch_lag_p99_s >= 0
    # Four stalls in a hundred ticks, and yet they must not vanish from the percentile.
    assert hogged.loop_lag_p99_s is not None
    assert hogged.loop_lag_p99_s > 0.1
    assert hogged.dispatch_lag_p99_s > 0.05


def test_garbage_collection_is_off_while_measuring_and_on_again_after() -> None:
    seen: list[bool] = []

    async def look(call: Call) -> None:
        seen.append(gc.isenabled())
        await answer(call)

    with source(look) as served:
        drive(opened([0.0], 0.1), url=served.url, prompts=["a"], drain_timeout_s=20)
    assert seen == [False]
    assert gc.isenabled()


def test_a_base_url_that_is_none_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UserError, match="is not an HTTP URL"):
        drive(opened([0.0], 0.1), url="localhost", prompts=["a"], drain_timeout_s=1)
