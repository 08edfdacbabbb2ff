"""Clients that speak in other ways than most, through real sockets and a real process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct

import pytest

from lb.routing.exchange import Timeouts
from tests.lb.messages import BODY, REPLIES, REQUESTS, Request
from tests.lb.running import started
from tests.lb.scripted import CHUNKED_HEAD, STREAM_HEAD, Call, ScriptedReplica, answer, balancer
from tests.lb.wires import Answer, read_answers

pytestmark = pytest.mark.anyio

PATHS = [
    "/ready",
    "/health",
    "/metrics",
    "/v1/models",
    "/v1/models/none",
    "/none",
    "/v1/completions",
]
OPTIONS = ("--policy", "round-robin", "--endpoints")
JSON_HEAD = CHUNKED_HEAD % b"application/json"


async def talk(url: str, data: bytes) -> tuple[bytes, str]:
    """All that comes back until the connection ends, and how it ends."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    got = b""
    try:
        async with asyncio.timeout(20):
            writer.write(data)
            while piece := await reader.read(65536):
                got += piece
    except ConnectionResetError:
        return got, "reset"
    finally:
        writer.close()
    return got, "closed"


async def ask(url: str, *requests: Request) -> list[Answer]:
    """The answers to requests of which the last one ends the connection."""
    got, ended = await talk(url, b"".join(request.data for request in requests))
    return read_answers(got, [request.method for request in requests], ended)


async def in_single_bytes(call: Call) -> None:
    reply = REPLIES["stream, other framing"].data
    for place in range(len(reply)):
        await call.send(reply[place : place + 1])
        await asyncio.sleep(0)


async def framing_apart(call: Call) -> None:
    """Segments of framing alone, each read by itself."""
    for piece in (
        STREAM_HEAD + b"9\r\ndata: 1\n\n\r\n",
        b"9\r\n",
        b"data: 2\n\n\r\n",
        b"e;x=y\r\n",
        b"data: [DONE]\n\n",
        b"\r\n0\r\n",
        b"\r\n",
    ):
        await call.send(piece)
        await asyncio.sleep(0.05)


async def test_segments_of_framing_alone_end_nothing() -> None:
    async with (
        ScriptedReplica(framing_apart) as replica,
        started(*OPTIONS, replica.url) as lb,
    ):
        answers = await ask(lb.url, REQUESTS["length"], REQUESTS["close"])
    text = b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
    assert [(one.status, one.body, one.whole) for one in answers] == [(200, text, True)] * 2


async def test_every_way_of_speaking_gets_the_same_answer() -> None:
    # One of HTTP/1.0 may be kept or not: that depends on whether it all came at once.
    posts = [one for one in REQUESTS.values() if one.method == "POST" and one.http10 <= one.ends]
    async with (
        ScriptedReplica(in_single_bytes) as replica,
        started(*OPTIONS, replica.url) as lb,
    ):
        for request in posts:
            requests = [request] if request.ends else [request, REQUESTS["close"]]
            answers = [one for one in await ask(lb.url, *requests) if one.status != 100]
            assert [(one.status, one.body, one.whole) for one in answers] == [
                (200, REPLIES["stream"].body, True)
            ] * len(requests)
    assert {call.body for call in replica.calls} == {BODY}


async def test_head_is_answered_at_once_and_without_a_body() -> None:
    """On one connection: a body where there must be none would be the next answer."""
    head, get = "HEAD %s HTTP/1.1\r\nhost: x\r\n\r\n", "GET %s HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"HEAD /ready HTTP/1.0\r\n\r\n"
    async with ScriptedReplica() as replica, started(*OPTIONS, replica.url) as lb:
        data = "".join((head + get) % (path, path) for path in PATHS).encode() + last
        got, ended = await talk(lb.url, data)
    answers = read_answers(got, ["HEAD", "GET"] * len(PATHS) + ["HEAD"], ended)
    statuses = [one.status for one in answers]
    assert statuses == [200] * 8 + [404] * 4 + [405] * 2 + [200]
    assert all(one.body == b"" for one in answers[::2])
    assert all(one.body for one in answers[1::2])
    # The replica is not asked for what only a head is wanted of.
    assert not replica.calls


@pytest.mark.parametrize("stated", ["json until closed", "json in chunks", "stream"])
@pytest.mark.parametrize("how", ["reset", "stalls"])
async def test_http_1_0_never_takes_what_breaks_for_complete(stated: str, how: str) -> None:
    """Where the end of the connection is that of the answer, it is a reset."""

    async def post(call: Call) -> None:
        reply = REPLIES[stated].data
        await call.send(reply[: reply.index(b"choices")])
        if how == "reset":
            await asyncio.sleep(0.05)
            client = call.writer.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            call.reset()
        else:
            await replica.hang(call)

    async with (
        ScriptedReplica(post) as replica,
        balancer(replica.url, timeouts=Timeouts(stall_s=0.2)) as lb,
    ):
        got, ended = await talk(lb.url, REQUESTS["1.0"].data)
    if stated == "stream":
        assert ended == "closed"
        assert got.split(b"\n\n")[-2].startswith(b'data: {"error":')
    else:
        assert ended == "reset"


async def test_http_1_0_sees_what_is_cut_off_when_the_balancer_stops() -> None:
    async def begin(call: Call) -> None:
        await call.send(JSON_HEAD)
        await call.send_chunk(b'{"a":')
        begun.set()
        await replica.hang(call)

    begun = asyncio.Event()
    async with ScriptedReplica(begin) as replica:
        async with balancer(replica.url) as lb:
            talking = asyncio.create_task(talk(lb.url, REQUESTS["1.0"].data))
            await begun.wait()
            await asyncio.sleep(0.05)
        _, ended = await talking
    assert ended == "reset"


async def test_http_1_0_sees_what_is_cut_off_when_the_balancer_is_killed() -> None:
    async with ScriptedReplica() as replica, started(*OPTIONS, replica.url) as lb:
        replica.behaviour = replica.begin_and_hang
        host, port = lb.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(20):
            writer.write(REQUESTS["1.0"].data)
            assert (await reader.readuntil(b"data: 1\n\n")).startswith(b"HTTP/1.1 200 ")
            await lb.end(signal.SIGKILL)
            with pytest.raises(ConnectionResetError):
                await reader.read()
        writer.close()


async def test_http_1_0_keeps_a_connection_that_it_asks_to_keep() -> None:
    async with ScriptedReplica() as replica, balancer(replica.url) as lb:
        answers = await ask(lb.url, REQUESTS["1.0, kept"], REQUESTS["1.0, kept"], REQUESTS["1.0"])
    assert [one.body for one in answers] == [BODY] * 3


async def test_a_request_that_is_answered_before_it_was_sent_frees_its_connection() -> None:
    """What the replica has not read would be in front of the next request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError, ConnectionError, asyncio.LimitOverrunError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"POST"):
                    writer.write(answer(b"{}", status="401 Unauthorized"))
                    await left.wait()
                else:
                    writer.write(answer(b'{"object":"list","data":[{"id":"m"}]}'))
        writer.close()

    left = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, balancer(url, poll_interval_s=60) as lb:
        responses = [await lb.post(prompt="x" * 20_000_000), await lb.post()]
        left.set()
    assert [response.status_code for response in responses] == [401, 401]
