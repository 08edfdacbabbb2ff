"""The client against sources with known timings, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import socket
import statistics
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from bench.errors import UserError
from bench.load.client import Client
from bench.load.connection import Connection
from bench.load.eventloop import DirectLoop
from bench.load.exchange import Exchange
from bench.load.flight import Flight
from bench.records import ErrorKind, PlannedRequest, Sample
from tests.bench.load_source import (
    ANSWER,
    CHUNKED,
    DONE,
    EVENT_STREAM,
    LAST_CHUNK,
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
    usage,
)

# What a busy machine may add on the way; the medians seen are far below a millisecond.
TOLERANCE_S = 0.005


def fetch_many(url: str, streams: int, rounds: int) -> list[Sample]:
    """Samples whose times are of time.monotonic(), as the source's are.

    The prompt of a request is its index.
    """

    async def main() -> list[Flight]:
        client = Client(url)
        flights = [
            Flight(PlannedRequest(index, 0, "m", 7, 2, 0), 0.0) for index in range(streams * rounds)
        ]
        sends = (
            client.fetch(client.encode(f.planned, str(f.planned.index)), f.exchange)
            for f in flights
        )
        for _ in range(rounds):
            await asyncio.gather(*islice(sends, streams))
        await client.close()
        return flights

    with asyncio.Runner(loop_factory=DirectLoop) as runner:
        return [flight.sample(start_s=0.0) for flight in runner.run(main())]


async def timed_answer(call: Call) -> None:
    """Role, 60 ms, a token, 30 ms, two tokens in one write, 30 ms, the rest in pieces."""
    token = chunk(delta(content="x"))
    await call.write(CHUNKED + chunk(ROLE))
    await asyncio.sleep(0.06)
    await call.write(token)
    await asyncio.sleep(0.03)
    await call.write(token + token)
    await asyncio.sleep(0.03)
    await call.write(token[:40])
    await asyncio.sleep(0.02)
    await call.write(token[40:])
    await asyncio.sleep(0.05)
    await call.write(chunk(STOP) + chunk(usage(7, 4)))
    await asyncio.sleep(0.02)
    await call.write(chunk(DONE) + LAST_CHUNK)


@pytest.mark.parametrize(("streams", "rounds"), [(1, 8), (40, 1)])
def test_measured_times_are_the_known_times(streams: int, rounds: int) -> None:
    with source(timed_answer) as served:
        samples = fetch_many(served.url, streams, rounds)
    assert [sample.error for sample in samples] == [None] * streams * rounds
    errors: dict[str, list[float]] = {"sent": [], "first": [], "last": [], "gap": []}
    for call in served.calls:
        sample = samples[int(call.prompt)]
        _, first, pair, _, completed, *_ = call.written_s
        assert sample.first_token_s is not None
        assert sample.last_token_s is not None
        assert sample.sent_s is not None
        assert len(sample.chunk_s) == 4
        assert sample.chunk_s[1] == sample.chunk_s[2]
        errors["sent"].append(call.received_s - sample.sent_s)
        errors["first"].append(sample.first_token_s - first)
        errors["last"].append(sample.last_token_s - completed)
        errors["gap"].append(abs((sample.chunk_s[1] - sample.chunk_s[0]) - (pair - first)))
    assert min(errors["first"] + errors["last"]) >= 0, "a time stamp before the write"
    assert min(errors["sent"]) >= 0, "sent after it was received"
    # Forty connections at once take the source itself a while to accept.
    bounds_s = dict.fromkeys(errors, TOLERANCE_S) | {"sent": 10 * TOLERANCE_S}
    medians_s = {name: statistics.median(values) for name, values in errors.items()}
    assert all(medians_s[name] < bounds_s[name] for name in errors), medians_s


def test_token_counts_and_replica_come_from_the_server() -> None:
    async def script(call: Call) -> None:
        head = EVENT_STREAM + b"X-LB-Replica: tiny-llama-1\r\nConnection: close\r\n\r\n"
        await call.write(head + ANSWER)
        call.writer.close()

    with source(script) as served:
        sample = fetch(served.url)
    assert (sample.prompt_tokens, sample.output_tokens) == (7, 2)
    assert (sample.replica, sample.status, sample.ok) == ("tiny-llama-1", 200, True)


def chunked_in_one_write(answer: bytes) -> Iterator[bytes]:
    yield CHUNKED + chunk(answer) + LAST_CHUNK


def chunked_byte_by_byte(answer: bytes) -> Iterator[bytes]:
    whole = CHUNKED + chunk(answer) + LAST_CHUNK
    yield from (whole[i : i + 1] for i in range(len(whole)))


def chunked_with_a_trailer(answer: bytes) -> Iterator[bytes]:
    yield CHUNKED + chunk(answer) + b"0\r\nX-Sum: 1\r\n"
    yield b"\r\n"


def with_a_length(answer: bytes) -> Iterator[bytes]:
    yield EVENT_STREAM + b"Content-Length: %d\r\n\r\n" % len(answer)
    yield answer


def until_the_connection_closes(answer: bytes) -> Iterator[bytes]:
    yield UNTIL_CLOSE
    yield answer


def after_an_interim_answer(answer: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    yield CHUNKED + chunk(answer) + LAST_CHUNK


@pytest.mark.parametrize(
    "framing",
    [
        chunked_in_one_write,
        chunked_byte_by_byte,
        chunked_with_a_trailer,
        with_a_length,
        until_the_connection_closes,
        after_an_interim_answer,
    ],
)
def test_every_framing_of_http_is_understood(framing: Callable[[bytes], Iterator[bytes]]) -> None:
    async def script(call: Call) -> None:
        for piece in framing(ANSWER):
            await call.write(piece)
        if framing is until_the_connection_closes:
            call.writer.close()

    with source(script) as served:
        sample = fetch(served.url)
    assert (sample.error, sample.detail, len(sample.chunk_s)) == (None, None, 2)


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


def with_status(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


TOKEN = delta(content="x")


@pytest.mark.parametrize(
    ("script", "kind", "status", "detail"),
    [
        (say(), ErrorKind.DISCONNECT, None, "before the answer"),
        (say(reset=True), ErrorKind.DISCONNECT, None, "before the answer"),
        (say(CHUNKED, chunk(TOKEN)), ErrorKind.DISCONNECT, 200, "in the middle of"),
        (say(CHUNKED, chunk(TOKEN), reset=True), ErrorKind.DISCONNECT, 200, "in the middle of"),
        (say(UNTIL_CLOSE, ANSWER, reset=True), ErrorKind.DISCONNECT, 200, "in the middle of"),
        (say(b"HTTP/1.1 200 O"), ErrorKind.DISCONNECT, None, "in the middle of"),
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


def test_what_came_before_a_time_out_is_kept() -> None:
    async def script(call: Call) -> None:
        await call.write(CHUNKED + chunk(TOKEN))
        await call.hang()

    with source(script) as served:
        sample = fetch(served.url, deadline_s=0.3)
    assert sample.error is ErrorKind.TIMEOUT
    assert len(sample.chunk_s) == 1


async def answer_at_once(call: Call) -> None:
    await call.write(CHUNKED + chunk(ANSWER) + LAST_CHUNK)


def test_a_connection_is_kept_for_the_next_request() -> None:
    with source(answer_at_once) as served:
        samples = fetch_many(served.url, streams=1, rounds=3)
    assert all(sample.ok for sample in samples)
    assert served.connections == 1


def test_a_connection_that_the_server_announces_to_close_is_not_kept() -> None:
    async def script(call: Call) -> None:
        head = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        await call.write(head + chunk(ANSWER) + LAST_CHUNK)

    with source(script) as served:
        samples = fetch_many(served.url, streams=1, rounds=2)
    assert [sample.error for sample in samples] == [None, None]
    assert served.connections == 2


@pytest.mark.parametrize(
    "more",
    [b"junk", CHUNKED + LAST_CHUNK],
    ids=["junk", "a second answer"],
)
def test_a_connection_with_bytes_after_the_answer_is_not_kept(more: bytes) -> None:
    async def script(call: Call) -> None:
        await call.write(CHUNKED + chunk(ANSWER) + LAST_CHUNK + more)

    with source(script) as served:
        samples = fetch_many(served.url, streams=1, rounds=2)
    assert [sample.error for sample in samples] == [None, None]
    assert served.connections == 2


def test_a_connection_that_spoke_unasked_is_not_used() -> None:
    async def script(call: Call) -> None:
        await answer_at_once(call)
        await asyncio.sleep(0.05)
        await call.write(with_status(b"408 Request Time-out", b"idle for too long"))

    with source(script) as served:
        schedule = opened([0.0, 0.4], 0.5)
        result = drive(schedule, url=served.url, prompts=["1", "2"], drain_timeout_s=20)
    assert [sample.error for sample in result.samples] == [None, None]
    assert [call.connection for call in served.calls] == [1, 2]


def test_a_connection_that_cannot_be_kept_is_closed_at_once() -> None:
    seen: list[str] = []

    async def script(call: Call) -> None:
        seen.append(call.prompt)
        if call.prompt == "garbage":
            await call.write(b"garbage\r\n")
            await call.hang()
            seen.append("hung up")
        else:
            await answer_at_once(call)

    with source(script) as served:
        schedule = opened([0.0, 0.4], 0.5)
        drive(schedule, url=served.url, prompts=["garbage", "next"], drain_timeout_s=20)
    assert seen == ["garbage", "hung up", "next"]


def test_a_connection_lost_before_its_first_request_is_a_disconnect() -> None:
    async def main() -> Exchange:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection, exchange = Connection(ours, loop.direct), Exchange()
        theirs.close()
        await asyncio.sleep(0.05)
        await connection.carry(b"", exchange)
        return exchange

    loop = DirectLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        failure = runner.run(main()).failure
    assert failure is not None
    assert failure.kind is ErrorKind.DISCONNECT
    assert failure.detail == "closed before the request was sent"


def test_a_kept_connection_that_proves_closed_is_replaced_once_with_the_first_send_time() -> None:
    async def script(call: Call) -> None:
        if len(served.calls) == 2:
            await asyncio.sleep(0.05)
            call.reset()
        else:
            await answer_at_once(call)

    with source(script) as served:
        samples = fetch_many(served.url, streams=1, rounds=2)
    assert [sample.error for sample in samples] == [None, None]
    assert [call.connection for call in served.calls] == [1, 1, 2]
    assert served.calls[1].body == served.calls[2].body
    assert samples[1].sent_s is not None
    assert samples[1].sent_s < served.calls[1].received_s


def test_a_request_larger_than_the_socket_takes_is_sent_whole() -> None:
    prompt = "long " * 2_000_000

    with source(answer_at_once) as served:
        schedule = opened([0.0], 0.001)
        result = drive(schedule, url=served.url, prompts=[prompt], drain_timeout_s=20)
    assert [sample.error for sample in result.samples] == [None]
    assert [call.prompt == prompt for call in served.calls] == [True]


def test_an_answer_that_comes_before_the_request_is_sent_ends_it_and_the_connection() -> None:
    async def script(call: Call) -> None:
        await call.write(with_status(b"429 Slow down", b"not now"))
        await asyncio.sleep(0.5)

    with source(script, reads_bodies=False) as served:
        schedule = opened([0.0, 0.2], 0.3)
        prompts = ["long " * 2_000_000, "short"]
        result = drive(schedule, url=served.url, prompts=prompts, drain_timeout_s=20)
    assert [sample.error for sample in result.samples] == [ErrorKind.RATE_LIMITED] * 2
    assert [call.connection for call in served.calls] == [1, 2]


def test_a_request_is_not_sent_a_third_time() -> None:
    async def script(call: Call) -> None:
        if len(served.calls) == 1:
            await answer_at_once(call)
        else:
            call.reset()

    with source(script) as served:
        samples = fetch_many(served.url, streams=1, rounds=2)
    assert [sample.error for sample in samples] == [None, ErrorKind.DISCONNECT]
    assert len(served.calls) == 3


def test_the_request_asks_for_a_stream_of_exactly_the_wanted_length() -> None:
    with source(answer_at_once) as served:
        fetch(served.url + "/prefix/")
    (call,) = served.calls
    assert call.head.startswith(b"POST /prefix/v1/chat/completions HTTP/1.1\r\n")
    assert b"Host: " + served.url.removeprefix("http://").encode() in call.head
    for part in (b'"max_tokens":2', b'"min_tokens":2', b'"ignore_eos":true', b'"temperature":0'):
        assert part in call.body
    assert b'"stream":true,"stream_options":{"include_usage":true}' in call.body


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://host", "http://", "http://host:port", "http://a..b", ""]
)
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="is not a"):
        Client(url)
