"""Servers that load is sent to: ready before they are used, ended with the run."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from bench.errors import UserError
from bench.load.accuracy.answers import CHAT, chat_body
from bench.load.accuracy.running import LocalServer, running_source
from bench.processes.guarded import Guarded, last_lines
from bench.processes.ports import LOOPBACK, free_ports
from bench.processes.resources import pinned
from validation.harness import ROOT

SOURCE = "source"
# Drawn from, so that two runs that start at once hardly take the same.
_FIRST_PORTS = range(18100, 28100)
_READY_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_S = 2.0


@contextmanager
def beside_source(folder: Path, every_ms: int) -> Iterator[tuple[str, dict[str, list[int]]]]:
    """A source on the first core, and this process on the others, while the context lasts.

    Yields the URL of the source, and the cores by who has them: `source`, `load`. Streams have a
    chunk each `every_ms`; logs go to `folder`.
    """
    source, *others = sorted(os.sched_getaffinity(0))
    cores = {"source": [source], "load": others or [source]}
    with pinned(cores["load"]), Servers(folder) as servers:
        yield servers.start_source(every_ms, {source}).url, cores


class Servers(ExitStack):
    """Servers that answer like the source, on cores of their own, until `close`.

    Logs go to `folder`. The last one that was started is ended first.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.ports = free_ports(random.choice(_FIRST_PORTS), reserved=())

    def start_source(
        self, every_ms: int, cores: Collection[int], hosts: Sequence[str] = (LOOPBACK,)
    ) -> LocalServer:
        """Start the source; its streams have a chunk each `every_ms`. Raises UserError."""
        log = self._folder / f"{SOURCE}.log"
        with pinned(cores):
            return self.enter_context(
                running_source(log, loop="uvloop", every_ms=every_ms, hosts=hosts)
            )

    def start(
        self, name: str, command: Sequence[str], port: int, cores: Collection[int]
    ) -> LocalServer:
        """Start a server that listens on `port`. Raises UserError if it does not answer."""
        log = self._folder / f"{name}.log"
        with pinned(cores):
            process = Guarded(command, log=log, folder=ROOT)
        self.callback(process.terminate)
        _await_ready(name, port, process)
        return LocalServer(port, process)


def _await_ready(name: str, port: int, process: Guarded) -> None:
    """Wait until a request gets its answer from the source. Raises UserError if none does."""
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    while why := _why_not_ready(port):
        if process.poll() is not None:
            what = f"ended: {last_lines(process.log) or 'it printed nothing'}"
        elif time.monotonic() > deadline_s:
            what = f"does not answer after {_READY_TIMEOUT_S:.0f} s: {why}"
        else:
            time.sleep(0.1)
            continue
        raise UserError(f"{name} {what}; see {process.log}, or leave it out with --only")


def _why_not_ready(port: int) -> str | None:
    """Why a request got no answer; None if it got one."""
    try:
        answer = httpx.post(
            f"http://{LOOPBACK}:{port}{CHAT}",
            content=chat_body(stream=False),
            headers={"content-type": "application/json"},
            timeout=_REQUEST_TIMEOUT_S,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return str(error)
    return None if answer.status_code == httpx.codes.OK else f"HTTP {answer.status_code}"
