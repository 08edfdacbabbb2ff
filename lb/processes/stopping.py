"""When to stop: at a signal, or when the supervisor has ended; at once at a second signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable


class Stopping:
    """`requested` is set at the first request to stop, `forced` at the second.

    After the first one, requests that are under way may end.
    """

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()

    def on_signals(self, numbers: Iterable[signal.Signals]) -> None:
        loop = asyncio.get_running_loop()
        for number in numbers:
            loop.add_signal_handler(number, self.ask)

    def on_end_of(self, pipe: int) -> None:
        """Stop when the process at the other end of `pipe` has ended."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(pipe)
            self.ask()

        loop.add_reader(pipe, ended)

    def ask(self) -> None:
        (self.forced if self.requested.is_set() else self.requested).set()

    async def sleep_unless_forced(self, timeout_s: float) -> None:
        """Sleep for `timeout_s`, or until `forced`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.forced.wait()
        except TimeoutError:
            pass
