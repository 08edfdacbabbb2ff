"""What thousands of clients that leave behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.lb.running import Running, started
from tests.lb.scripted import STREAM_HEAD, Call, ScriptedReplica

pytestmark = pytest.mark.anyio

BODY = b'{"model":"m","stream":true}'
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY)
AT_ONCE = 50
MIB = 1024 * 1024


async def begin(call: Call) -> None:
    await call.send(STREAM_HEAD)
    await call.send_chunk(b"data: 1\n\n")
    await call.reader.read()


async def abort_one(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(HEAD + BODY)
    await reader.read(10)
    writer.transport.abort()


async def abort_many(running: Running, count: int) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    for _ in range(count // AT_ONCE):
        await asyncio.gather(*(abort_one(host, int(port)) for _ in range(AT_ONCE)))
    while await running.in_flight() != [0]:
        await asyncio.sleep(0.02)


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_memory_and_files_stay_as_they_are_while_streams_are_left() -> None:
    async with (
        ScriptedReplica(begin) as replica,
        started("--policy", "queue-aware", "--endpoints", replica.url) as running,
        asyncio.timeout(120),
    ):
        while not any("is healthy" in line for line in running.log):
            await asyncio.sleep(0.02)
        await abort_many(running, 2000)  # by then all pools are filled
        before, files = resident_bytes(running.pid), open_files(running.pid)
        await abort_many(running, 4000)
        # A stream that is not let go of takes 20 KiB or more: 4,000 of them 80 MiB.
        assert resident_bytes(running.pid) < before + 8 * MIB
        assert open_files(running.pid) < files + AT_ONCE
