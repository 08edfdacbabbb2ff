"""The client towards the replicas, where two want the same connection at almost one moment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.http.endpoint import Endpoint, parse_targets
from lb.http.upstream.client import Upstream
from lb.http.upstream.errors import BadAnswerError
from tests.lb.scripted import ScriptedReplica, answer

pytestmark = pytest.mark.anyio


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.setblocking(False)
        listener.bind(str(tmp_path / "replica"))
        listener.listen()
        yield listener


@pytest.fixture
def endpoint(listener: socket.socket) -> Endpoint:
    return Endpoint("", 0, "replica", unix=listener.getsockname())


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


async def asked(peer: socket.socket) -> str:
    """The path of the next request on a connection."""
    request = await asyncio.get_running_loop().sock_recv(peer, 4096)
    return request.decode().split(" ")[1]


@pytest.mark.parametrize("answered_first", [True, False])
async def test_who_gives_up_on_an_answer_that_is_there_does_not_break_the_next_one(
    upstream: Upstream, listener: socket.socket, endpoint: Endpoint, answered_first: bool
) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        first = asyncio.create_task(upstream.get(endpoint, "/first", 100))
        peer, _ = await loop.sock_accept(listener)
        with peer:
            assert await asked(peer) == "/first"
            # The balancer's end reads this when the step that is running now is over, and
            # then the steps that are asked for here follow: all before the first one's next.
            peer.send(answer(b"1"))
            second = asyncio.create_task(upstream.get(endpoint, "/second", 100))
            if answered_first:
                loop.call_soon(first.cancel)
            else:
                first.cancel()
            assert await asked(peer) == "/second"
            peer.send(answer(b"2"))
            assert await second == b"2"
        with pytest.raises(asyncio.CancelledError):
            await first


@pytest.mark.parametrize(("coding", "read"), [("identity", True), ("gzip", False)])
async def test_an_answer_is_asked_for_as_it_is_and_another_coding_is_named(
    upstream: Upstream, listener: socket.socket, endpoint: Endpoint, coding: str, read: bool
) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        get = asyncio.create_task(upstream.get(endpoint, "/metrics", 100))
        peer, _ = await loop.sock_accept(listener)
        with peer:
            request = await loop.sock_recv(peer, 4096)
            assert b"\r\naccept-encoding: identity\r\n" in request
            peer.send(answer(b"1", head=f"content-encoding: {coding}\r\n"))
            if read:
                assert await get == b"1"
            else:
                with pytest.raises(BadAnswerError, match="/metrics encoded as gzip"):
                    await get


async def test_what_replicas_leave_open_is_closed_when_it_is_used_no_more(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the latest is used again: others would take descriptors for ever."""
    monkeypatch.setattr("lb.http.upstream.client._IDLE_LIMIT_S", 0.2)
    async with ScriptedReplica() as replica, asyncio.timeout(20):
        (target,) = parse_targets(replica.url, "test")
        gets = [upstream.get(target.endpoint, "/health", 100) for _ in range(5)]
        await asyncio.gather(*gets)
        assert replica.connections == len(replica.writers) == 5
        while len(replica.writers) > 1:
            await upstream.get(target.endpoint, "/health", 100)
            await asyncio.sleep(0.02)
            upstream.expire()
        assert replica.connections == 5


async def test_an_answer_is_not_asked_for_again_because_another_one_is_waited_for(
    upstream: Upstream, listener: socket.socket, endpoint: Endpoint
) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        before = asyncio.create_task(upstream.get(endpoint, "/before", 100))
        peer, _ = await loop.sock_accept(listener)
        with peer:
            assert await asked(peer) == "/before"
            peer.send(answer(b"0"))
            await before
            first = asyncio.create_task(upstream.get(endpoint, "/first", 100))
            assert await asked(peer) == "/first"
            peer.send(answer(b"1", status="500 Internal Server Error"))
            second = asyncio.create_task(upstream.get(endpoint, "/second", 100))
            with pytest.raises(BadAnswerError):
                await first
            assert await asked(peer) == "/second"
            peer.send(answer(b"2"))
            assert await second == b"2"
