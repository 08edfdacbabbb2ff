"""The balancer as a process of its own, as users run it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


@dataclass
class Running:
    """A started balancer; `log` is what it has written so far."""

    process: asyncio.subprocess.Process
    url: str
    log: list[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self) -> list[int]:
        """Process ids: the control plane first, then the workers in order."""
        task = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return sorted(int(pid) for pid in task.read_text().split())

    async def health(self) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            facts: dict[str, Any] = (await client.get(f"{self.url}/health")).json()
        return facts

    async def in_flight(self) -> list[int]:
        return [replica["in_flight"] for replica in (await self.health())["replicas"]]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.process.wait()


def started(*arguments: str, **environ: str) -> AbstractAsyncContextManager[Running]:
    """`python -m lb` with `arguments`, as soon as it announces its URL; killed at the end."""
    return started_as((sys.executable, "-m", "lb"), None, *arguments, **environ)


@contextlib.asynccontextmanager
async def started_as(
    program: Sequence[str], folder: Path | None, *arguments: str, **environ: str
) -> AsyncIterator[Running]:
    """Like `started`, for another `program`, in a folder."""
    process = await asyncio.create_subprocess_exec(
        *(*program, "--port", "0", *arguments),
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={**os.environ, **environ},
    )
    stderr = process.stderr
    assert stderr is not None
    log: list[str] = []

    async def read_log() -> None:
        while line := await stderr.readline():
            log.append(line.decode())

    first = (await stderr.readline()).decode()
    reading = asyncio.create_task(read_log())
    try:
        yield Running(process, first.split()[-1], log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
