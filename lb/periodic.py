"""Calls a function at intervals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def every(interval_s: float, action: Callable[[], None]) -> AsyncIterator[None]:
    """A context in which `action` is called about every `interval_s`."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(interval_s)
            action()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
