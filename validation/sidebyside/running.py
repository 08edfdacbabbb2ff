"""Servers of a run: started in order, ready before they are used, ended with the run."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.cores import pinned
from bench.environments.local.ports import LOOPBACK, free_ports
from bench.errors import UserError
from bench.process import Guarded, last_lines
from validation.sidebyside.answers import CHAT, chat_body
from validation.sidebyside.procfs import listening_group

SOURCE = "source"
# Drawn from, so that two runs that start at once hardly take the same.
_FIRST_PORTS = range(18100, 28100)
_READY_TIMEOUT_S = 60.0
_ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server that load can be sent to: its port and its process group."""

    name: str
    port: int
    group: int


class Servers:
    """Servers that answer like the source, each on its cores, until `close`.

    `root` is where this project's modules can be imported from; logs go to `folder`.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self.ports = free_ports(random.choice(_FIRST_PORTS), reserved=())
        self._running = ExitStack()

    def start_source(self, hosts: Sequence[str], every_ms: int, cores: Collection[int]) -> Target:
        """Start the source; its streams have a chunk each `every_ms`.

        Raises UserError if it does not answer.
        """
        port = next(self.ports)
        module = [sys.executable, "-m", "validation.sidebyside.source"]
        return self.start(SOURCE, [*module, str(port), str(every_ms), *hosts], port, cores)

    def start(self, name: str, command: Sequence[str], port: int, cores: Collection[int]) -> Target:
        """Start a server that listens on `port`. Raises UserError if it does not answer."""
        log = self._folder / f"{name}.log"
        with pinned(cores):
            process = Guarded(command, log=log, folder=self._root)
        self._running.callback(process.terminate)
        _await_ready(name, port, process)
        return Target(name, port, listening_group(port))

    def close(self) -> None:
        """End them all, the last first. Safe to repeat."""
        self._running.close()


def _await_ready(name: str, port: int, process: Guarded) -> None:
    """Wait until a request gets its answer from the source."""
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    while why := _why_not_ready(port):
        if process.poll() is not None:
            said = last_lines(process.log) or "it said nothing"
            raise UserError(f"{name} ended: {said}; see {process.log}, or leave it out with --only")
        if time.monotonic() > deadline_s:
            raise UserError(
                f"{name} does not answer after {_READY_TIMEOUT_S:.0f} s: {why}; "
                f"see {process.log}, or leave it out with --only"
            )
        time.sleep(0.1)


def _why_not_ready(port: int) -> str | None:
    try:
        answer = httpx.post(
            f"http://{LOOPBACK}:{port}{CHAT}",
            content=chat_body(stream=False),
            headers={"content-type": "application/json"},
            timeout=_ASK_TIMEOUT_S,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return str(error)
    return None if answer.status_code == httpx.codes.OK else f"HTTP {answer.status_code}"
