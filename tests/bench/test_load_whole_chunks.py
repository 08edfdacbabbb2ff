"""Answers are the same however they are cut, though most of their chunks are never parsed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.client.answer import read_answer
from bench.load.client.connection import Connection
from bench.load.client.eventloop import DirectLoop
from bench.load.client.exchange import Exchange
from tests.bench.load_source import (
    ANSWER,
    CHUNKED,
    DONE,
    LAST_CHUNK,
    ROLE,
    STOP,
    UNTIL_CLOSE,
    chunk,
    delta,
    usage,
)

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# Bodies that look like parts of the framing around them.
BODIES = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"\r\n", b"0\r\n\r\n", b"1\r\nx\r\n", b"x" * 15, b"x" * 16, b"x" * 5000]),
)
SIZE_LINES = st.sampled_from(["%x\r\n", "%x\r\n", "%x\r\n", "%X\r\n", "00%x\r\n", "%x;a=b\r\n"])
ENDS = st.sampled_from([b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"000\r\n\r\n"])


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[bytes], list[bytes], bytes]:
    """The bodies of an answer's chunks, these as they are framed, and its end."""
    bodies = draw(st.lists(BODIES, max_size=12))
    lines = [(draw(SIZE_LINES) % len(body)).encode() for body in bodies]
    framed = [line + body + b"\r\n" for line, body in zip(lines, bodies, strict=True)]
    return bodies, framed, draw(ENDS)


TRAPS = [
    # A line end within a body, and after it what would be a chunk elsewhere.
    (b"ab\r\n1\r\nx\r\ncd", [b"c\r\nab\r\n", b"1\r\nx\r\n", b"cd\r\n"]),
    # The rest of a size line (1a), which is one as well, and a body that would fit it.
    (b"y" * 10 + b"\r\n" + b"z" * 14, [b"1", b"a\r\n" + b"y" * 10 + b"\r\n", b"z" * 14 + b"\r\n"]),
    # The rest of a chunk that is cut at its end.
    (b"x" * 5 + b"2\r\nab", [b"a\r\nxxxxx", b"2\r\nab\r\n"]),
]


def received(writes: Sequence[bytes]) -> Exchange:
    """What a connection makes of an answer that comes in these pieces, each in a read."""

    async def main() -> Exchange:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection, exchange = Connection(ours, loop.direct), Exchange()
        carried = asyncio.create_task(connection.send(b"", exchange))
        await asyncio.sleep(0)
        with suppress(BrokenPipeError):  # what is no HTTP is not read to its end
            for piece in writes:
                theirs.sendall(piece)
                await asyncio.sleep(0)
        theirs.close()
        await carried
        connection.close()
        return exchange

    loop = DirectLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())


@given(answers(), st.data())
def test_a_body_is_the_same_however_it_is_cut(
    answer: tuple[list[bytes], list[bytes], bytes], data: st.DataObject
) -> None:
    bodies, framed, end = answer
    wire = HEAD + b"".join(framed) + end
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=12)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    exchange = received(pieces)
    assert exchange.complete, exchange.failure
    assert b"".join(exchange.body) == b"".join(bodies)
    assert len(exchange.body_s) == len(exchange.body)
    assert exchange.body_s == sorted(exchange.body_s)


@pytest.mark.parametrize(("body", "pieces"), TRAPS)
def test_what_only_looks_like_a_chunk_is_not_taken_for_one(
    body: bytes, pieces: list[bytes]
) -> None:
    before = b"3\r\nabc\r\n"
    exchange = received([HEAD, before, *pieces, b"0\r\n\r\n"])
    assert exchange.complete, exchange.failure
    assert b"".join(exchange.body) == b"abc" + body
    # In one read with what comes before it, too.
    exchange = received([HEAD, before + pieces[0], *pieces[1:], b"0\r\n\r\n"])
    assert exchange.complete, exchange.failure
    assert b"".join(exchange.body) == b"abc" + body


@given(answers())
def test_chunks_that_come_one_by_one_are_kept_one_by_one(
    answer: tuple[list[bytes], list[bytes], bytes],
) -> None:
    bodies, framed, end = answer
    exchange = received([HEAD, *framed, end])
    assert exchange.complete, exchange.failure
    assert exchange.body == bodies


@given(answers(), st.integers(0, 12), st.sampled_from([b"zz\r\nab\r\n", b"3\r\nab\r\n", b"\r\n"]))
def test_broken_framing_is_found_wherever_it_comes(
    answer: tuple[list[bytes], list[bytes], bytes], place: int, broken: bytes
) -> None:
    _, framed, end = answer
    place = min(place, len(framed))
    exchange = received([HEAD, *framed[:place], broken, *framed[place:], end])
    assert not exchange.complete
    assert exchange.failure is not None


EVENTS = (ROLE, delta(content="one "), delta(content="two"), STOP, usage(7, 2), DONE)
JSON = b"HTTP/1.1 503 Busy\r\nContent-Type: application/json\r\n"
BUSY = b'{"error": {"message": "busy"}}'
RECORDED = {
    "streamed": CHUNKED + b"".join(map(chunk, EVENTS)) + LAST_CHUNK,
    "together": CHUNKED + chunk(b"".join(EVENTS)) + LAST_CHUNK,
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + CHUNKED
    + chunk(ANSWER)
    + LAST_CHUNK,
    "until close": UNTIL_CLOSE + ANSWER,
    "cr only": UNTIL_CLOSE + b"\xef\xbb\xbf" + ANSWER.replace(b"\n", b"\r"),
    "error": JSON + b"Content-Length: %d\r\n\r\n" % len(BUSY) + BUSY,
    "error in chunks": JSON + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(BUSY) + LAST_CHUNK,
    "broken off": CHUNKED + chunk(EVENTS[0]) + chunk(EVENTS[1])[:-9],
}


@pytest.mark.parametrize("wire", RECORDED.values(), ids=RECORDED)
def test_an_exchange_gives_the_same_sample_wherever_it_is_cut(wire: bytes) -> None:
    def sample(pieces: Sequence[bytes]) -> tuple[object, ...]:
        exchange = received(pieces)
        answer = read_answer(exchange)
        counts = (len(answer.chunk_s), answer.prompt_tokens, answer.output_tokens)
        return exchange.status, *counts, answer.finish_reason, answer.failure

    whole = sample([wire])
    assert sample([wire[at : at + 1] for at in range(len(wire))]) == whole
    for at in range(1, len(wire)):
        assert sample([wire[:at], wire[at:]]) == whole, at
