"""The event loop of the load side: sockets that it serves itself, and times that it keeps."""

from __future__ import annotations

import asyncio
import math
import socket
import statistics
import threading
from collections.abc import Callable, Coroutine
from time import monotonic, process_time

from bench.load.client.eventloop import DirectLoop


def run(main: Callable[[DirectLoop], Coroutine[None, None, None]]) -> None:
    loop = DirectLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main(loop))


def test_a_watched_socket_is_read_without_a_turn_of_the_loop_until_its_reader_asks_for_one() -> (
    None
):
    async def main(loop: DirectLoop) -> None:
        ours, theirs = socket.socketpair()
        done = asyncio.Event()
        turns_before: list[int] = []

        def read() -> bool:
            piece = ours.recv(1)
            turns_before.append(turns)
            if piece == b"!":
                done.set()
            else:
                theirs.send(b"a" if len(turns_before) < 5 else b"!")
            return piece == b"!"

        turns = 0
        loop.direct.watch(ours, read)
        theirs.send(b"a")
        while not done.is_set():
            await asyncio.wait_for(done.wait(), 20)
            turns += 1
        assert len(turns_before) == 6
        assert set(turns_before) == {0}
        loop.direct.forget(ours)
        theirs.send(b"a")
        await asyncio.sleep(0.01)
        assert len(turns_before) == 6
        ours.close()
        theirs.close()

    run(main)


def test_a_busy_watched_socket_holds_up_neither_timers_nor_whatever_else_the_loop_has() -> None:
    async def main(loop: DirectLoop) -> None:
        ours, theirs = socket.socketpair()
        theirs.send(b"x")
        # Always ready: it is looked at, and never emptied.
        loop.direct.watch(ours, lambda: not ours.recv(1, socket.MSG_PEEK))
        called = asyncio.Event()
        threading.Timer(0.05, loop.call_soon_threadsafe, [called.set]).start()
        await asyncio.wait_for(called.wait(), 20)
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        server.close()
        loop.direct.forget(ours)
        ours.close()
        theirs.close()

    run(main)


def lateness(*, punctual: bool) -> list[float]:
    """How late a hundred timers fire, in seconds; waiting for them must take no CPU."""
    late_s: list[float] = []

    async def main(loop: DirectLoop) -> None:
        for _ in range(100):
            due_s = monotonic() + 0.0025
            loop.direct.punctual_s = due_s if punctual else math.inf
            await asyncio.sleep(due_s - monotonic())
            late_s.append(monotonic() - due_s)

    began_s, began_cpu_s = monotonic(), process_time()
    run(main)
    # Whoever spins through the last part of a millisecond is busy for a fifth of the time.
    assert process_time() - began_cpu_s < 0.1 * (monotonic() - began_s)
    return late_s


def test_no_timer_is_early_and_one_that_must_be_punctual_is_so() -> None:
    usual_s, punctual_s = lateness(punctual=False), lateness(punctual=True)
    assert min(usual_s) >= 0
    assert min(punctual_s) >= 0
    # The others are waited for in whole milliseconds. A busy machine is late at times, but
    # not with every one of a hundred.
    assert min(punctual_s) < 0.5 * statistics.median(usual_s)
