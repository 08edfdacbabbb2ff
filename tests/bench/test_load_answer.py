"""What a stream says: content, usage, and why it is not a complete answer."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.client.answer import read_answer
from bench.load.client.exchange import Exchange, Failure
from bench.records import ErrorKind
from tests.bench.load_source import DONE, ROLE, STOP, delta, event, usage

TOKEN = delta(content="x")


def exchange(*pieces: bytes, status: int = 200, **changes: object) -> Exchange:
    """A complete exchange whose pieces arrived at 1, 2, 3, ... seconds."""
    made = Exchange(
        status=status, headers={"content-type": "text/event-stream; charset=utf-8"}, complete=True
    )
    for at_s, piece in enumerate(pieces, start=1):
        made.add(float(at_s), piece)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_only_chunks_with_content_are_timed() -> None:
    empty = delta(content="")
    answer = read_answer(exchange(ROLE, TOKEN, empty, TOKEN, STOP, usage(7, 2), DONE))
    assert answer.chunk_s == [2.0, 4.0]
    assert (answer.prompt_tokens, answer.output_tokens) == (7, 2)
    assert answer.failure is None


def test_the_finishing_chunk_counts_when_it_has_content() -> None:
    answer = read_answer(exchange(TOKEN, delta(content="x", finish_reason="length"), DONE))
    assert answer.chunk_s == [1.0, 2.0]
    assert answer.failure is None


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_is_content(key: str) -> None:
    answer = read_answer(exchange(ROLE, delta(**{key: "hm"}), TOKEN, STOP, DONE))
    assert answer.chunk_s == [2.0, 3.0]


def test_events_that_came_together_share_their_time() -> None:
    answer = read_answer(exchange(ROLE + TOKEN + TOKEN, TOKEN + STOP + DONE))
    assert answer.chunk_s == [1.0, 1.0, 2.0]


def test_a_usage_that_tells_less_takes_back_nothing() -> None:
    rest = event(choices=[], usage={"total_tokens": 9})
    answer = read_answer(exchange(TOKEN, TOKEN, STOP, usage(7, 2), rest, b"data: [DONE] \n\n"))
    assert (answer.prompt_tokens, answer.output_tokens) == (7, 2)
    assert answer.failure is None


def test_without_usage_token_counts_are_unknown() -> None:
    answer = read_answer(exchange(TOKEN, STOP, DONE))
    assert (answer.prompt_tokens, answer.output_tokens) == (None, None)


def test_usage_in_every_chunk_is_read_to_the_last() -> None:
    def counted(tokens: int) -> bytes:
        return event(
            choices=[{"delta": {"content": "x"}}],
            usage={"prompt_tokens": 7, "completion_tokens": tokens},
        )

    assert read_answer(exchange(counted(1), counted(2), STOP, DONE)).output_tokens == 2


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize(
    "beside",
    [
        b"data: \n\n",
        b"data\n\n",
        b"data\ndata\n\n",
        b": ping - now\n\n",
        b"event: ping\ndata: ping\n\n",
        b'event: ping\ndata: {"type": "ping"}\n\n',
        b"id: 7\nretry: 5\n\n",
    ],
)
def test_whatever_the_standard_allows_beside_the_chunks_is_no_fault(
    beside: bytes, newline: bytes
) -> None:
    parts = (ROLE, beside, TOKEN, beside, TOKEN, STOP, usage(7, 2), beside, DONE)
    first, *rest = (part.replace(b"\n", newline) for part in parts)
    answer = read_answer(exchange(b"\xef\xbb\xbf" + first, *rest))
    assert answer.chunk_s == [3.0, 5.0]
    assert (answer.output_tokens, answer.failure) == (2, None)


@pytest.mark.parametrize("end", [b"data:[DONE]\n\n", b"data:\t[DONE] \n\n"])
def test_blanks_around_the_end_are_no_part_of_it(end: bytes) -> None:
    assert read_answer(exchange(TOKEN, STOP, end)).failure is None


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, chunked", "gzip"])
def test_an_answer_in_another_transfer_coding_names_it(coding: str) -> None:
    headers = {"content-type": "text/event-stream", "transfer-encoding": coding}
    failure = read_answer(exchange(b"\x1f\x8b\x08", headers=headers)).failure
    assert failure is not None
    assert failure.kind is ErrorKind.PROTOCOL
    assert f"transfer encoding {coding}" in failure.detail


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("coding", ["gzip", "br", "ZSTD"])
def test_an_encoded_answer_names_its_coding(coding: str, status: int) -> None:
    headers = {"content-type": "text/event-stream", "content-encoding": coding}
    failure = read_answer(exchange(b"\x1f\x8b\x08", status=status, headers=headers)).failure
    assert failure is not None
    assert f"content encoding {coding.lower()} though identity was asked for" in failure.detail


def test_identity_is_no_encoding() -> None:
    headers = {"content-type": "text/event-stream", "content-encoding": "identity"}
    assert read_answer(exchange(TOKEN, STOP, DONE, headers=headers)).failure is None


@given(st.data())
def test_the_reading_does_not_depend_on_how_the_bytes_are_cut(data: st.DataObject) -> None:
    stream = ROLE + TOKEN + delta(content="grüße") + STOP + usage(7, 2) + DONE
    edges = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    bounds = [0, *edges, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(bounds)]
    answer = read_answer(exchange(*pieces))
    ends = (stream.index(TOKEN) + len(TOKEN), stream.index(STOP))
    assert answer.chunk_s == [1.0 + sum(edge < end for edge in edges) for end in ends]
    assert (answer.output_tokens, answer.failure) == (2, None)


# Of vLLM, of OpenAI for other requests, and of nobody yet.
UNFINISHED = ("abort", "error", "repetition", "content_filter", "tool_calls", "cancelled")


def answer_ended(reason: str) -> tuple[bytes, ...]:
    """An answer of one token, complete but for what the server says of its end."""
    end = event(choices=[{"delta": {"content": ""}, "finish_reason": reason}])
    return ROLE, TOKEN, end, usage(7, 1), DONE


ERROR = event(error={"message": "out of memory", "type": "InternalServerError", "code": 500})


@pytest.mark.parametrize(
    ("pieces", "kind", "detail"),
    [
        ((ROLE, TOKEN, ERROR, DONE), ErrorKind.SERVER, "out of memory"),
        ((TOKEN, b"event: error\ndata: it broke\n\n"), ErrorKind.SERVER, "it broke"),
        ((TOKEN, event(error="overloaded")), ErrorKind.SERVER, "overloaded"),
        ((TOKEN, event(object="error", message="too old")), ErrorKind.SERVER, "too old"),
        ((TOKEN, b"event: error\ndata:\n\n"), ErrorKind.SERVER, "without data"),
        ((ROLE, b"data: {broken\n\n", DONE), ErrorKind.PROTOCOL, "{broken"),
        ((b"data: [1]\n\n",), ErrorKind.PROTOCOL, "not a JSON object"),
        ((event(choices=[None]), DONE), ErrorKind.PROTOCOL, "not a completion chunk"),
        ((event(choices=7), DONE), ErrorKind.PROTOCOL, "not a completion chunk"),
        ((event(usage={"prompt_tokens": "7"}), DONE), ErrorKind.PROTOCOL, "not a completion"),
        ((ROLE, TOKEN, STOP), ErrorKind.TRUNCATED, "[DONE]"),
        ((ROLE, TOKEN, DONE), ErrorKind.TRUNCATED, "finish reason"),
        ((), ErrorKind.TRUNCATED, "finish reason"),
        ((ROLE, STOP, DONE), ErrorKind.EMPTY, "no content"),
        *((answer_ended(reason), ErrorKind.ABORTED, repr(reason)) for reason in UNFINISHED),
        ((ROLE, event(choices=[{"finish_reason": "abort"}])), ErrorKind.ABORTED, "abort"),
        ((TOKEN, *answer_ended("abort"), STOP, DONE), ErrorKind.ABORTED, "abort"),
    ],
)
def test_a_stream_that_is_no_complete_answer_is_classified(
    pieces: tuple[bytes, ...], kind: ErrorKind, detail: str
) -> None:
    failure = read_answer(exchange(*pieces)).failure
    assert failure is not None
    assert failure.kind is kind
    assert detail in failure.detail


def test_what_came_before_a_failure_is_kept() -> None:
    answer = read_answer(exchange(ROLE, TOKEN, TOKEN, ERROR))
    assert answer.chunk_s == [2.0, 3.0]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"error": {"message": "too long", "code": 400}}', "HTTP 400: too long"),
        (b'{"object": "error", "message": "too long"}', "HTTP 400: too long"),
        (b'{"detail": "too long"}', "HTTP 400: too long"),
        (b"<html>\n too long </html>", "HTTP 400: <html> too long </html>"),
        (b"", "HTTP 400:"),
    ],
)
def test_a_status_keeps_the_servers_message(body: bytes, detail: str) -> None:
    failure = read_answer(exchange(body, status=400)).failure
    assert failure == Failure(ErrorKind.STATUS, detail)


def test_a_redirection_says_where_to() -> None:
    headers = {"location": "https://lb/v1"}
    failure = read_answer(exchange(b"", status=307, headers=headers)).failure
    assert failure == Failure(ErrorKind.STATUS, "HTTP 307: redirects to https://lb/v1")


def test_a_long_message_is_cut() -> None:
    failure = read_answer(exchange(b"x" * 10_000, status=500)).failure
    assert failure is not None
    assert 150 < len(failure.detail) <= 200


def test_another_content_type_is_not_a_stream() -> None:
    page = exchange(b"<html>welcome", headers={"content-type": "text/html"})
    failure = read_answer(page).failure
    assert failure is not None
    assert failure.kind is ErrorKind.PROTOCOL
    assert "text/html: <html>welcome" in failure.detail


def test_the_first_cause_counts() -> None:
    lost = Failure(ErrorKind.DISCONNECT, "connection lost")
    cut = exchange(ROLE, TOKEN, complete=False, failure=lost)
    assert read_answer(cut).failure == lost
    after_error = exchange(TOKEN, ERROR, complete=False, failure=lost)
    failure = read_answer(after_error).failure
    assert failure is not None
    assert failure.kind is ErrorKind.SERVER


def test_without_a_status_the_transports_failure_is_the_answer() -> None:
    refused = Failure(ErrorKind.CONNECT, "refused")
    assert read_answer(Exchange(failure=refused)).failure == refused
