"""Servers of a run: started in order, ready before they are used, ended with the run."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.cores import pinned
from bench.environments.local.ports import LOOPBACK, free_ports
from bench.errors import UserError
from bench.process import Guarded, last_lines
from bench.proxies.answers import CHAT, chat_body
from bench.proxies.cores import Layout
from bench.proxies.peers import Peer
from bench.proxies.procfs import listening_group
from bench.proxies.site import Site

SOURCE = "source"
# As many replicas as such a number of streams has: balancers bound what each may have.
_HOSTS = tuple(f"127.0.0.{number}" for number in range(1, 9))
_FIRST_PORT = 18100
_READY_TIMEOUT_S = 60.0
_ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server that load can be sent to: its port and its process group."""

    name: str
    port: int
    group: int


class Servers:
    """The source and the proxies, each pinned by `layout`, until `close`.

    `root` is where `lb` can be imported from; logs and configuration go to `folder`.
    """

    def __init__(self, root: Path, folder: Path, layout: Layout) -> None:
        self._root = root
        self._folder = folder
        self._layout = layout
        self._ports: Iterator[int] = free_ports(_FIRST_PORT, reserved=())
        self._source_port = next(self._ports)
        self._running = ExitStack()

    def start_source(self) -> Target:
        """Start the source, first of all. Raises UserError if it does not answer."""
        command = [sys.executable, "-m", "bench.proxies.source", str(self._source_port), *_HOSTS]
        return self._start(SOURCE, command, self._source_port, {self._layout.source})

    def start(self, peer: Peer) -> Target:
        """Start a proxy in front of the source. Raises UserError if it does not answer."""
        port, metrics_port = next(self._ports), next(self._ports)
        replicas = tuple(f"{host}:{self._source_port}" for host in _HOSTS)
        command = peer.start(Site(port, metrics_port, replicas, self._folder))
        return self._start(peer.name, command, port, {self._layout.proxy})

    def close(self) -> None:
        """End them all, the source last. Safe to repeat."""
        self._running.close()

    def _start(self, name: str, command: list[str], port: int, cores: Collection[int]) -> Target:
        log = self._folder / f"{name}.log"
        with pinned(cores):
            process = Guarded(command, log=log, folder=self._root)
        self._running.callback(process.terminate)
        _await_ready(name, port, process)
        return Target(name, port, listening_group(port))


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
