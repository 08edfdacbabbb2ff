"""Many event streams held open at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

import uvloop

from validation.sidebyside.answers import SLOW, slow_body

_T = TypeVar("_T")
# Connections that are being opened at once: fewer than the backlog of any proxy.
_OPENING = 32
_PATIENCE_S = 20.0


def while_streaming(port: int, count: int, look: Callable[[], _T]) -> tuple[int, _T]:
    """Open up to `count` slow streams at `port`; how many run, and what `look` finds then.

    A stream counts once its first event has come. Streams that do not begin within 20 s
    are given up.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_hold(port, count, look))


async def _hold(port: int, count: int, look: Callable[[], _T]) -> tuple[int, _T]:
    streams: list[_Stream] = []
    slots = asyncio.Semaphore(_OPENING)
    loop = asyncio.get_running_loop()

    async def open_one() -> None:
        # A refused connection is a stream that does not run.
        async with slots:
            with suppress(OSError):
                _, stream = await loop.create_connection(_Stream, "127.0.0.1", port)
                streams.append(stream)
                await stream.settled

    opening = [asyncio.create_task(open_one()) for _ in range(count)]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await asyncio.gather(*opening)
        return sum(stream.running for stream in streams), look()
    finally:
        for stream in streams:
            stream.close()


class _Stream(asyncio.Protocol):
    """One stream. `settled` is done at its first event, or at its end without one."""

    def __init__(self) -> None:
        self.settled = asyncio.get_running_loop().create_future()
        self.running = False
        self._transport: asyncio.Transport
        self._beginning = b""

    def close(self) -> None:
        self._transport.abort()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        if not self.settled.done():
            self._beginning += data
            if b"\r\n\r\n" in self._beginning and b"data: " in self._beginning:
                self.running = self._beginning.startswith(b"HTTP/1.1 200 ")
                self.settled.set_result(None)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.running = False
        if not self.settled.done():
            self.settled.set_result(None)


def _request() -> bytes:
    body = slow_body()
    head = (
        f"POST {SLOW} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_REQUEST = _request()
