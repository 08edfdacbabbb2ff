"""An answer as its pieces come in, without a network."""

from __future__ import annotations

import asyncio

import pytest

from lb.upstream import BadAnswerError, ConnectionLostError, Response

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


def ignore() -> None:
    pass


def fed(*pieces: bytes) -> Response:
    response = Response(ignore, ignore)
    for piece in pieces:
        response.feed(piece)
    return response


async def test_pieces_of_any_size_make_the_same_answer() -> None:
    text = HEAD + b"text"
    for size in range(1, len(text) + 1):
        response = fed(*(text[start : start + size] for start in range(0, len(text), size)))
        assert (response.status, response.headers) == (200, [(b"content-length", b"4")])
        assert await response.read() == b"text"
        assert response.finished


async def test_an_answer_has_not_begun_before_its_body() -> None:
    response = fed(HEAD)
    begun = asyncio.create_task(response.begun())
    await asyncio.sleep(0)
    assert not begun.done()
    response.feed(b"t")
    assert await begun is response


async def test_leaving_at_the_moment_of_the_first_byte_ends_the_connection() -> None:
    ended = asyncio.Event()
    response = Response(ended.set, ignore)
    begun = asyncio.create_task(response.begun())
    await asyncio.sleep(0)
    response.feed(HEAD + b"te")
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    assert ended.is_set()


async def test_what_came_before_a_failure_is_read_before_it_is_raised() -> None:
    response = fed(HEAD + b"te")
    response.end_of_connection()
    assert await response.read() == b"te"
    with pytest.raises(ConnectionLostError):
        await response.read()


async def test_a_connection_is_not_used_again_after_an_answer_nobody_asked_for() -> None:
    assert fed(HEAD + b"text").reusable
    assert not fed(HEAD + b"text" + HEAD).reusable
    assert not fed(HEAD + b"text" + b"garbage").reusable
    assert not fed(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").reusable


async def test_a_change_of_protocol_is_no_answer() -> None:
    response = fed(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
    with pytest.raises(BadAnswerError):
        await response.begun()


async def test_trailers_are_not_headers() -> None:
    response = fed(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ntext\r\n0\r\nx-late: 1\r\n\r\n"
    )
    assert response.complete
    assert [name for name, _ in response.headers] == [b"transfer-encoding"]
