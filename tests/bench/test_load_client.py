"""The client against sources with known timings, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterator

import pytest

from bench.errors import UserError
from bench.load.client.client import Client
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
    answer_at_once,
    chunk,
    delta,
    fetch,
    fetch_many,
    source,
    usage,
)

# What a busy machine may add on the way; the medians seen are far below a millisecond.
TOLERANCE_S = 0.005


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
    yield CHUNKED + chunk(answer) + b"0\r\nContent-Encoding: gzip\r\nX-LB-Replica: b\r\n"
    yield b"\r\n"


def with_a_length(answer: bytes) -> Iterator[bytes]:
    yield EVENT_STREAM + b"Content-Length: %d\r\n\r\n" % len(answer)
    yield answer


def until_the_connection_closes(answer: bytes) -> Iterator[bytes]:
    yield UNTIL_CLOSE
    yield answer


def as_it_is_until_the_connection_closes(answer: bytes) -> Iterator[bytes]:
    yield UNTIL_CLOSE.replace(b"Connection", b"Transfer-Encoding: identity\r\nConnection")
    yield answer


def after_an_interim_answer(answer: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: gzip\r\n\r\n"
    yield CHUNKED + chunk(answer) + LAST_CHUNK


@pytest.mark.parametrize(
    "framing",
    [
        chunked_in_one_write,
        chunked_byte_by_byte,
        chunked_with_a_trailer,
        with_a_length,
        until_the_connection_closes,
        as_it_is_until_the_connection_closes,
        after_an_interim_answer,
    ],
)
def test_every_framing_of_http_is_understood(framing: Callable[[bytes], Iterator[bytes]]) -> None:
    async def script(call: Call) -> None:
        for piece in framing(ANSWER):
            await call.write(piece)
        if "until" in framing.__name__:
            call.writer.close()

    with source(script) as served:
        sample = fetch(served.url)
    assert (sample.error, sample.detail, len(sample.chunk_s)) == (None, None, 2)
    assert sample.replica is None


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
