"""A balancer without descriptors says so, and does not blame its replicas."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
from collections import Counter

import pytest

from lb.http.descriptors import exhausted, too_high_for_client
from tests.lb.running import Running, started
from tests.lb.scripted import ScriptedReplica, Streams
from tests.lb.test_client_connection import REQUEST, RawClient, raw

pytestmark = pytest.mark.anyio

DESCRIPTORS = 100


async def until_healthy(running: Running, replicas: int) -> None:
    while sum(one["healthy"] for one in (await running.health())["replicas"]) < replicas:
        await asyncio.sleep(0.02)


async def head_of_answer(client: RawClient) -> bytes:
    return await client.reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize("clients", [60, 300])
async def test_clients_get_a_503_that_says_so_and_replicas_stay_healthy(clients: int) -> None:
    streams = Streams()
    async with (
        ScriptedReplica(streams) as one,
        ScriptedReplica(streams) as two,
        started(
            *("--policy", "queue-aware", "--poll-interval", "0.1"),
            *("--endpoints", f"{one.url},{two.url}"),
        ) as running,
        asyncio.timeout(60),
    ):
        await until_healthy(running, 2)
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        async with contextlib.AsyncExitStack() as stack:
            connected = [await stack.enter_async_context(raw(running)) for _ in range(clients)]
            for client in connected:
                await client.send(REQUEST)
            heads = [await head_of_answer(client) for client in connected]
            statuses = Counter(head.split(b" ")[1] for head in heads)
            refused = heads.index(next(head for head in heads if b" 503 " in head))
            body = await connected[refused].rest()
            during = await running.health()
            polls = one.polls
            while one.polls < polls + 3:
                await asyncio.sleep(0.02)
            assert (await running.health())["replicas"][0]["healthy"]
            streams.finish.set()
            for client, head in zip(connected, heads, strict=True):
                if b" 200 " in head:
                    assert b"[DONE]" in await client.reader.readuntil(b"0\r\n\r\n")
        # As soon as those who have left are gone, others are served.
        head = b""
        while b" 200 " not in head:
            async with raw(running) as later:
                await later.send(REQUEST)
                head = await head_of_answer(later)
    assert statuses.keys() == {b"200", b"503"}
    assert statuses[b"200"] >= 15
    assert b'"code":"out_of_descriptors"' in body
    assert [replica["healthy"] for replica in during["replicas"]] == [True, True]
    assert not any("unhealthy" in line for line in running.log)


async def test_it_takes_as_many_as_the_system_lets_it_have() -> None:
    async with (
        ScriptedReplica() as replica,
        started("--policy", "queue-aware", "--endpoints", replica.url) as running,
    ):
        soft, hard = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 2**20) or hard == resource.RLIM_INFINITY


def test_it_is_told_from_what_a_replica_does() -> None:
    assert exhausted(OSError(errno.EMFILE, "Too many open files"))
    assert exhausted(OSError(errno.ENFILE, "Too many open files in system"))
    assert exhausted(OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"))  # no port
    assert not exhausted(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))
    assert not exhausted(OSError(errno.EHOSTUNREACH, "No route to host"))
    assert not too_high_for_client(3)
