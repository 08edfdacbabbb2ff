"""When to stop: at a signal or when the supervisor has ended; at once at a second signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable


class Stopping:
    """`asked` is set at the first request to stop, `hurried` at the second.

    After the first one, what is under way may still end.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def on_signals(self, numbers: Iterable[signal.Signals]) -> None:
        loop = asyncio.get_running_loop()
        for number in numbers:
            loop.add_signal_handler(number, self.ask)

    def on_end_of(self, pipe: int) -> None:
        """Stop when the other end of `pipe` is closed, as it is when its process ends."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(pipe)
            self.ask()

        loop.add_reader(pipe, ended)

    def ask(self) -> None:
        (self.hurried if self.asked.is_set() else self.asked).set()

    async def wait_hurried(self, timeout_s: float) -> None:
        """Wait for `timeout_s`, or less if hurried."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.hurried.wait()
        except TimeoutError:
            pass
