"""The openai SDK as a driver: the built-in client's schedule, rules and error kinds."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable

import pytest

from bench.drivers.builtin import BuiltinDriver
from bench.drivers.openai_sdk import OpenAiDriver
from bench.load.run.drive import DriveResult, Load
from bench.processes.local import LocalSite
from bench.records import ErrorKind, Sample, Schedule
from tests.bench.load_source import (
    ANSWER,
    CHUNKED,
    LAST_CHUNK,
    ROLE,
    STOP,
    Call,
    chunk,
    closed,
    delta,
    event,
    opened,
    source,
    usage,
)

WHOLE = CHUNKED + chunk(ANSWER) + LAST_CHUNK
BUSY = b'{"error":{"message":"too busy"}}'


async def answer(call: Call) -> None:
    await call.write(WHOLE)


def drive(schedule: Schedule, url: str, drain_timeout_s: float = 20.0) -> DriveResult:
    count = len(schedule.requests)
    load = Load(schedule, [f"prompt {index}" for index in range(count)], [url] * count)
    result = OpenAiDriver().run(load, drain_timeout_s=drain_timeout_s)
    assert result.driver.name == "openai"
    assert result.driver.notes
    return result


def fetch(script: Callable[[Call], Awaitable[None]], drain_timeout_s: float = 20.0) -> Sample:
    with source(script) as served:
        return drive(opened([0.0], 0.001), served.url, drain_timeout_s).samples[0]


def test_it_asks_for_exactly_what_the_built_in_client_asks_for() -> None:
    with source(answer) as served:
        load = Load(opened([0.0], 0.1), ["hello"], [served.url])
        OpenAiDriver().run(load, drain_timeout_s=20)
        BuiltinDriver(LocalSite()).run(load, drain_timeout_s=20)
    sdk, builtin = (json.loads(call.body) for call in served.calls)
    assert sdk == builtin


def test_it_sends_no_key_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with source(answer) as served:
        drive(opened([0.0], 0.1), served.url)
    assert b"sk-secret" not in served.calls[0].head


def test_role_and_usage_chunks_are_no_tokens_and_the_server_counts() -> None:
    sample = fetch(answer)
    assert sample.ok
    assert len(sample.chunk_s) == 2
    assert (sample.prompt_tokens, sample.output_tokens, sample.status) == (7, 2, 200)


def test_the_first_token_is_the_first_content_however_early_the_role() -> None:
    async def role_then_wait(call: Call) -> None:
        await call.write(CHUNKED + chunk(ROLE))
        await asyncio.sleep(0.3)
        rest = delta(content="a") + STOP + usage(7, 1) + b"data: [DONE]\n\n"
        await call.write(chunk(rest) + LAST_CHUNK)

    sample = fetch(role_then_wait)
    assert sample.first_token_s is not None
    assert sample.sent_s is not None
    assert sample.first_token_s - sample.sent_s >= 0.3


def test_a_closed_loop_keeps_its_number_in_flight() -> None:
    together = asyncio.Barrier(4)

    async def answer_four_at_a_time(call: Call) -> None:
        # With fewer than four in flight this waits for ever, and the deadline passes.
        await together.wait()
        await answer(call)

    with source(answer_four_at_a_time) as served:
        result = drive(closed(16, concurrency=4, duration_s=15.0), served.url)
    assert [sample.error for sample in result.samples] == [None] * 16


async def busy(call: Call) -> None:
    head = b"HTTP/1.1 503 Busy\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    await call.write(head % len(BUSY) + BUSY)


async def reset(call: Call) -> None:
    call.reset()


async def break_off(call: Call) -> None:
    await call.write(CHUNKED + chunk(delta(content="a")))
    await asyncio.sleep(0.05)
    call.reset()


async def fail_inside(call: Call) -> None:
    error = event(error={"message": "out of memory"})
    await call.write(CHUNKED + chunk(delta(content="a") + error) + LAST_CHUNK)


async def stop_early(call: Call) -> None:
    await call.write(CHUNKED + chunk(delta(content="a")) + LAST_CHUNK)


async def say_nothing(call: Call) -> None:
    await call.write(CHUNKED + chunk(ROLE + STOP + b"data: [DONE]\n\n") + LAST_CHUNK)


async def redirect(call: Call) -> None:
    head = b"HTTP/1.1 307 Over there\r\nLocation: /v1/chat/completions\r\n"
    await call.write(head + b"Content-Length: 0\r\n\r\n")


async def apologize(call: Call) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n"
    await call.write(head + b"sorry")


async def mislabel(call: Call) -> None:
    head = b"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"
    await call.write(head + b"plain")


def no_chunk(data: bytes) -> Callable[[Call], Awaitable[None]]:
    async def write(call: Call) -> None:
        await call.write(CHUNKED + chunk(ROLE + b"data: %s\n\n" % data + STOP) + LAST_CHUNK)

    return write


async def babble(call: Call) -> None:
    await call.write(CHUNKED + chunk(b"data: not JSON\n\n") + LAST_CHUNK)


@pytest.mark.parametrize(
    ("script", "kind", "detail"),
    [
        (busy, ErrorKind.UNAVAILABLE, "HTTP 503: too busy"),
        (reset, ErrorKind.DISCONNECT, ""),
        (break_off, ErrorKind.DISCONNECT, ""),
        (fail_inside, ErrorKind.SERVER, "out of memory"),
        (stop_early, ErrorKind.TRUNCATED, "finish reason"),
        (say_nothing, ErrorKind.EMPTY, ""),
        (babble, ErrorKind.PROTOCOL, ""),
        (redirect, ErrorKind.STATUS, "HTTP 307"),
        (apologize, ErrorKind.PROTOCOL, "text/html: sorry"),
        (mislabel, ErrorKind.PROTOCOL, ""),
        *((no_chunk(one), ErrorKind.PROTOCOL, "") for one in (b"5", b"[1]", b"null", b'"x"')),
        (no_chunk(b'{"choices": [{"delta": {"content": "\\ud83d"}}]}'), ErrorKind.PROTOCOL, ""),
    ],
)
def test_failures_have_the_kinds_that_the_built_in_client_gives_them(
    script: Callable[[Call], Awaitable[None]], kind: ErrorKind, detail: str
) -> None:
    sample = fetch(script)
    assert sample.error is kind
    assert detail in (sample.detail or "")


def stream(body: bytes, *, head: bytes = CHUNKED) -> Callable[[Call], Awaitable[None]]:
    async def write(call: Call) -> None:
        await call.write(head + chunk(body) + LAST_CHUNK)

    return write


def say(data: bytes) -> Callable[[Call], Awaitable[None]]:
    async def write(call: Call) -> None:
        await call.write(data)
        call.writer.close()

    return write


ENCODED = CHUNKED.replace(b"Transfer", b"Content-Encoding: gzip\r\nTransfer")


@pytest.mark.parametrize(
    ("script", "error", "chunks"),
    [
        (stream(ANSWER.replace(b"\n", b"\r")), None, 2),
        (stream(gzip.compress(ANSWER), head=ENCODED), None, 2),
        (stream(b": ping\n\n" + ANSWER), None, 2),
        # These are what its notes say.
        (stream(b"\xef\xbb\xbf" + ANSWER.removeprefix(ROLE)), None, 1),
        (stream(ROLE + b"data: \n\n" + ANSWER), ErrorKind.PROTOCOL, 0),
        (stream(b"event: ping\ndata: ping\n\n" + ANSWER), ErrorKind.PROTOCOL, 0),
        (stream(ANSWER.replace(b"one", b"\xff")), ErrorKind.PROTOCOL, 0),
        (say(CHUNKED + chunk(ANSWER)), None, 2),
        # These are JSON, but no chunks.
        (stream(b"data: null\n\n" + ANSWER), ErrorKind.PROTOCOL, 0),
        (stream(b"data: 7\n\n" + ANSWER), ErrorKind.PROTOCOL, 0),
        (stream(ANSWER.replace(b"one", b"\\ud83d")), ErrorKind.PROTOCOL, 0),
    ],
    ids=["cr", "gzip", "comment", "mark", "empty", "ping", "not UTF-8", "end", "null", "7", "half"],
)
def test_the_sdk_reads_streams_by_its_own_rules(
    script: Callable[[Call], Awaitable[None]], error: ErrorKind | None, chunks: int
) -> None:
    sample = fetch(script)
    assert (sample.error, len(sample.chunk_s)) == (error, chunks), sample.detail


def test_a_server_that_is_gone_refuses_the_connection() -> None:
    with source(answer) as served:
        pass
    assert drive(opened([0.0], 0.1), served.url).samples[0].error is ErrorKind.CONNECT


def test_an_answer_that_never_comes_is_given_up_after_the_drain() -> None:
    sample = fetch(Call.hang, drain_timeout_s=0.3)
    assert sample.error is ErrorKind.TIMEOUT
    assert sample.sent_s is not None
