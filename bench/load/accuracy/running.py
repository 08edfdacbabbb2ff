"""Runs the synthetic source as a process, and reads its reports."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import orjson

from bench.errors import UserError
from bench.load.accuracy.answers import REPORT, StreamCounts
from bench.paths import PYTHON, ROOT
from bench.processes.guarded import Guarded, last_lines
from bench.telemetry.cpu import Usage, children_of, usage

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class SourceTimes:
    """When the source had received a request, and when it sent each chunk (time.monotonic())."""

    arrived_s: float
    chunk_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What was streamed since the last report; `times` are by the index of the request."""

    counts: StreamCounts
    times: Mapping[int, SourceTimes]


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server at a port of loopback; `process` guards it."""

    port: int
    process: Guarded

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def usage(self) -> Usage:
        """CPU and memory that its processes have used until now, without the guard."""
        return usage(children_of(self.process.pid))


@contextmanager
def running_source(
    log: Path,
    *,
    loop: Literal["asyncio", "uvloop"] = "asyncio",
    every_ms: int = 0,
    hosts: Sequence[str] = ("127.0.0.1",),
) -> Iterator[LocalServer]:
    """A source that runs while the context lasts, and no longer than this process.

    See `source` for `loop` and `every_ms`. Raises UserError if it does not start.
    """
    command = [*PYTHON, "-m", "bench.load.accuracy.source", loop, str(every_ms), *hosts]
    process = Guarded(command, log=log, folder=ROOT)
    try:
        yield LocalServer(_port(process), process)
    finally:
        process.terminate()


def _port(process: Guarded) -> int:
    deadline_s = time.monotonic() + _TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if (output := last_lines(process.log)).isdecimal():
            return int(output)
        time.sleep(0.01)
    output = last_lines(process.log) or "it printed nothing"
    raise UserError(f"the synthetic source does not start: {output}; is the machine too busy?")


def ask_report(url: str) -> Report:
    """The report of the source at `url` since it was last asked. Raises UserError if it is gone."""
    try:
        answer = httpx.get(f"{url}{REPORT}", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        raise UserError(f"the synthetic source does not report its times: {error}") from error
    report = orjson.loads(answer.content)
    times = {
        int(index): SourceTimes(arrived_s, tuple(chunk_s))
        for index, (arrived_s, *chunk_s) in report["times"].items()
    }
    return Report(StreamCounts(**report["counts"]), times)
