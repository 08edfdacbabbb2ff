"""Balancers that replace each other on one port under load: what becomes of the requests.

`python -m tests.lb.handovers --count 50 --workers 2` shows at length what a test does a few
times. It exits with 1 if a request is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from tests.lb.running import Running, started
from tests.lb.scripted import END_OF_CHUNKS, STREAM_HEAD, Call, ScriptedReplica, answer

_CLIENTS = 12
_TIMEOUT_S = 20.0


async def serve(call: Call) -> None:
    """Answer in 10 ms, or stream for 0.5 s."""
    await asyncio.sleep(0.01)
    if not json.loads(call.body)["stream"]:
        await call.send(answer(b"{}"))
        return
    await call.send(STREAM_HEAD)
    for _ in range(10):
        await call.send_chunk(b"data: 1\n\n")
        await asyncio.sleep(0.05)
    await call.send_chunk(b"data: [DONE]\n\n")
    await call.send(END_OF_CHUNKS)


@dataclass
class Load:
    """Clients that ask all the time: some on new connections, some on kept ones.

    `outcomes` are how often each way to end was seen: a status, or what was in its place.
    """

    port: int
    outcomes: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def applied(self) -> AsyncIterator[None]:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as clients:
            for number in range(_CLIENTS):
                asking = self._ask(over, keep=number % 2 == 0, stream=number % 3 == 0)
                clients.create_task(asking)
            yield
            over.set()

    async def _ask(self, over: asyncio.Event, *, keep: bool, stream: bool) -> None:
        body = json.dumps({"model": "m", "stream": stream}).encode()
        lines = ["POST /v1/completions HTTP/1.1", "host: lb", f"content-length: {len(body)}"]
        if not keep:
            lines.append("connection: close")
        request = "\r\n".join([*lines, "", ""]).encode() + body
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not over.is_set():
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    connection = connection or await asyncio.open_connection("127.0.0.1", self.port)
                    outcome, kept = await _exchange(*connection, request)
            except (OSError, asyncio.IncompleteReadError) as error:
                outcome, kept = type(error).__name__, False
            self.outcomes[outcome] += 1
            if connection is not None and not kept:
                connection[1].close()
                connection = None
            await asyncio.sleep(random.uniform(0, 0.02))
        if connection is not None:
            connection[1].close()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[str, bool]:
    """The status, and whether the connection is kept."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    headers = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = await reader.readuntil(END_OF_CHUNKS)
        if b"[DONE]" not in body:
            return "broken stream", False
    return head.split(" ")[1], headers.get("connection") != "close"


async def hand_over(count: int, workers: Sequence[int], drain_delay_s: float) -> Counter[str]:
    """Outcomes of requests while `count` balancers replace the one before.

    They have so many `workers`, one number after the other and from the beginning again.
    """
    async with ScriptedReplica(serve) as replica, contextlib.AsyncExitStack() as running:
        options = (
            *("--policy", "queue-aware", "--endpoints", replica.url, "--reuse-port"),
            *("--drain-delay", str(drain_delay_s)),
        )

        async def start(number: int, *more: str) -> Running:
            how_many = str(workers[number % len(workers)])
            process = started(*options, "--workers", how_many, *more)
            new = await running.enter_async_context(process)
            # Both listen on one port, so that only its log tells when the new one does.
            while not any("is healthy and serves" in line for line in new.log):
                await asyncio.sleep(0.02)
            return new

        old = await start(0)
        port = old.url.rpartition(":")[2]
        load = Load(int(port))
        async with load.applied():
            for number in range(1, count + 1):
                new = await start(number, "--port", port)
                if await old.end() != 0:
                    load.outcomes["exit code of a balancer"] += 1
                old = new
        return load.outcomes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lb.handovers", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="of handovers (%(default)s)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1], help="of the balancers, in turn (1)"
    )
    parser.add_argument("--drain-delay", type=float, default=0.0, help="in s (%(default)s)")
    options = parser.parse_args()
    outcomes = asyncio.run(hand_over(options.count, options.workers, options.drain_delay))
    print(f"{options.count} handovers, {outcomes.total()} requests: {dict(outcomes)}")
    return 0 if outcomes.keys() == {"200"} else 1


if __name__ == "__main__":
    sys.exit(main())
