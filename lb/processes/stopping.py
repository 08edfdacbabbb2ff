"""When to stop: at a signal, at once at a second one, and when the supervisor is gone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable


class Stopping:
    """`asked` is set when what is under way may still end, `hurried` when it may not."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def on_signals(self, numbers: Iterable[signal.Signals]) -> None:
        loop = asyncio.get_running_loop()
        for number in numbers:
            loop.add_signal_handler(number, self.ask)

    def on_end_of(self, pipe: int) -> None:
        """Stop when the other end of `pipe` is closed, as the end of its process does."""
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
