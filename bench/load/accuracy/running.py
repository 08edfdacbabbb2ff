"""The source as a process: ready before it is used, ended with its context."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson

from bench.errors import UserError
from bench.load.accuracy.answers import TOLD
from bench.load.accuracy.deviations import Told
from bench.process import Guarded, last_lines

ROOT = Path(__file__).parents[3]
_READY_TIMEOUT_S = 30.0


@contextmanager
def running_source() -> Iterator[str]:
    """The base URL of a source that runs while the context lasts, and no longer than this process.

    Raises UserError if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="llm-bench-") as folder:
        command = [sys.executable, "-m", "bench.load.accuracy.source"]
        process = Guarded(command, log=Path(folder) / "source.log", folder=ROOT)
        try:
            yield f"http://127.0.0.1:{_port(process)}"
        finally:
            process.terminate()


def _port(process: Guarded) -> int:
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if (said := last_lines(process.log)).isdecimal():
            return int(said)
        time.sleep(0.01)
    said = last_lines(process.log) or "it said nothing"
    raise UserError(f"the calibration source does not start: {said}; is the machine too busy?")


def ask_told(url: str) -> Mapping[int, Told]:
    """What the source at `url` tells of the requests since it was last asked, by their index.

    Raises UserError if it is gone.
    """
    try:
        answer = httpx.get(f"{url}{TOLD}", timeout=_READY_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        raise UserError(f"the calibration source does not tell its times: {error}") from error
    return {
        int(index): Told(arrived_s, tuple(chunk_s))
        for index, (arrived_s, *chunk_s) in orjson.loads(answer.content).items()
    }
