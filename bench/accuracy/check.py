"""The client measured in about a second, before a run relies on it."""

from __future__ import annotations

import os

from bench.accuracy.level import Level, measure
from bench.accuracy.running import running_source
from bench.errors import UserError
from bench.progress import Progress
from bench.records import Accuracy

# Some load, and far from what a client could notice: an error here is the client's nature.
LEVEL = Level(streams=16, first_ms=20, every_ms=20, chunks=10, turns=2)


def check_client(progress: Progress, level: Level = LEVEL) -> Accuracy:
    """How far the client is off now, on this machine, at a light load.

    Raises UserError when it loses what was sent, or when the source does not start.
    """
    try:
        with progress.step("checking the load generator"), running_source() as url:
            accuracy = measure(level, url, os.sched_getaffinity(0)).accuracy
    except UserError as error:
        raise UserError(f"the load generator does not measure right: {error}") from error
    ttft, itl, e2e = accuracy.ttft, accuracy.itl, accuracy.e2e
    told = f"TTFT {_ms(ttft.p50_s)}, ITL {_ms(itl.p50_s)}, E2E {_ms(e2e.p50_s)} off (medians)"
    progress.note(f"load generator at {level}: {told}")
    return accuracy


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"
