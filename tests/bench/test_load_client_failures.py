"""What becomes of a request that fails: each way is told apart from the others."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from bench.load.client import response
from bench.records import ErrorKind
from tests.bench.load_source import (
    ANSWER,
    CHUNKED,
    DONE,
    ROLE,
    STOP,
    UNTIL_CLOSE,
    Call,
    Script,
    chunk,
    delta,
    drive,
    fetch,
    opened,
    source,
    with_status,
)


def say(*pieces: bytes, reset: bool = False) -> Script:
    """A script that sends `pieces` and ends the connection."""

    async def script(call: Call) -> None:
        for piece in pieces:
            await call.write(piece)
        if reset:
            # lest the reset overtakes what was sent
            await asyncio.sleep(0.05)
            call.reset()
        else:
            call.writer.close()

    return script


TOKEN = delta(content="x")
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\ncontent-type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    ("script", "kind", "status", "detail"),
    [
        (say(), ErrorKind.DISCONNECT, None, "before the answer"),
        (say(reset=True), ErrorKind.DISCONNECT, None, "before the answer"),
        (say(CHUNKED, chunk(TOKEN)), ErrorKind.DISCONNECT, 200, "in the middle of"),
        (say(CHUNKED, chunk(TOKEN), reset=True), ErrorKind.DISCONNECT, 200, "in the middle of"),
        (say(UNTIL_CLOSE, ANSWER, reset=True), ErrorKind.DISCONNECT, 200, "in the middle of"),
        (say(b"HTTP/1.1 200 O"), ErrorKind.DISCONNECT, None, "in the middle of"),
        (say(b"HTTP/1.1 100 Continue\r\n\r\n"), ErrorKind.DISCONNECT, None, "in the middle of"),
        (say(EARLY_HINTS, reset=True), ErrorKind.DISCONNECT, None, "in the middle of"),
        (
            say(with_status(b"503 Busy", b'{"error": {"message": "no replica"}}')),
            ErrorKind.UNAVAILABLE,
            503,
            "HTTP 503: no replica",
        ),
        (
            say(with_status(b"429 Slow down", b'{"error": {"message": "queue full"}}')),
            ErrorKind.RATE_LIMITED,
            429,
            "HTTP 429: queue full",
        ),
        (say(with_status(b"500 Oops", b"no")), ErrorKind.STATUS, 500, "HTTP 500: no"),
        (say(b"SSH-2.0-OpenSSH_9.2\r\n"), ErrorKind.PROTOCOL, None, "not HTTP"),
        (say(CHUNKED, b"zz\r\n"), ErrorKind.PROTOCOL, 200, "not HTTP"),
        (say(with_status(b"200 OK", b"welcome")), ErrorKind.PROTOCOL, 200, "content type none"),
        (say(UNTIL_CLOSE, b"data: {oops\n\n"), ErrorKind.PROTOCOL, 200, "oops"),
        (say(UNTIL_CLOSE, b'data: {"error": "no"}\n\n'), ErrorKind.SERVER, 200, "no"),
        (say(UNTIL_CLOSE, ROLE + TOKEN), ErrorKind.TRUNCATED, 200, "finish reason"),
        (say(UNTIL_CLOSE, ROLE + STOP + DONE), ErrorKind.EMPTY, 200, "no content"),
    ],
)
def test_every_failure_is_told_apart(
    script: Script, kind: ErrorKind, status: int | None, detail: str
) -> None:
    with source(script) as served:
        sample = fetch(served.url)
    assert (sample.error, sample.status) == (kind, status)
    assert sample.detail is not None
    assert detail in sample.detail


def test_a_refused_connection_is_a_failure_to_connect_that_was_never_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        sample = fetch(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert sample.error is ErrorKind.CONNECT
    assert sample.sent_s is None


def test_an_unknown_host_is_told_from_one_that_refuses() -> None:
    sample = fetch("http://no-such-host.invalid")
    assert sample.error is ErrorKind.RESOLVE
    assert sample.detail is not None
    assert sample.detail.startswith("no-such-host.invalid has no address: ")


def test_a_name_is_looked_up_once_and_not_for_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def noted(host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "engines.test" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    with source(say(UNTIL_CLOSE, ANSWER)) as served:
        url = served.url.replace("127.0.0.1", "engines.test")
        load = opened([0.0, 0.0, 0.1], 0.2)
        samples = drive(load, url=url, prompts=["hello"] * 3, drain_timeout_s=20).samples
        assert served.connections == 3
    assert [sample.error for sample in samples] == [None] * 3
    assert asked.count("engines.test") == 1


def test_an_answer_without_an_end_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def endless(call: Call) -> None:
        await call.write(UNTIL_CLOSE)
        while True:
            await call.write(TOKEN * 1000)

    monkeypatch.setattr(response, "MOST_BYTES", 1 << 20)
    with source(endless) as served:
        sample = fetch(served.url, deadline_s=60.0)
    assert (sample.error, sample.detail) == (
        ErrorKind.PROTOCOL,
        "the answer is longer than 1 MiB",
    )
    # What came before is kept.
    assert sample.chunk_s


def test_what_came_before_a_time_out_is_kept() -> None:
    async def script(call: Call) -> None:
        await call.write(CHUNKED + chunk(TOKEN))
        await call.hang()

    with source(script) as served:
        sample = fetch(served.url, deadline_s=0.3)
    assert sample.error is ErrorKind.TIMEOUT
    assert len(sample.chunk_s) == 1
