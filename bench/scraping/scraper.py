"""Scraping from the side of the experiment: begins before a trial, ends after it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.records import Replica, ServerReading, ServerSeries

PERIOD_S = 0.25
TIMEOUT_S = 5.0
ROOT = Path(__file__).parents[2]
# -S: it needs the standard library only, and starts in a moment. -E: and no settings.
COMMAND = (sys.executable, "-S", "-E", "-m", "bench.scraping.process")


class Scraper:
    """The readings of every replica, once scraping has ended."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._series = tuple(ServerSeries(replica.name, ()) for replica in replicas)

    def since(self, start_s: float) -> tuple[ServerSeries, ...]:
        """What was read; times are counted from `start_s` of time.monotonic().

        There is at least one reading of each replica before the context was entered, and
        one after it was left; those that failed say why.
        """
        return tuple(
            replace(
                one,
                readings=tuple(
                    replace(reading, due_s=reading.due_s - start_s, at_s=reading.at_s - start_s)
                    for reading in one.readings
                ),
            )
            for one in self._series
        )

    def end(self, written: bytes, code: int) -> None:
        """Take what the process has written before it ended with `code`."""
        try:
            rows = json.loads(written)
        except ValueError:
            now_s, why = time.monotonic(), f"the process that scrapes ended with code {code}"
            rows = {one.replica: [(now_s, now_s, {}, why)] for one in self._series}
        self._series = tuple(
            replace(
                one,
                readings=tuple(
                    ServerReading(due_s=due_s, at_s=at_s, error=error, **read)
                    for due_s, at_s, read, error in rows[one.replica]
                ),
            )
            for one in self._series
        )


@contextmanager
def scraping(
    replicas: Sequence[Replica], period_s: float = PERIOD_S, timeout_s: float = TIMEOUT_S
) -> Iterator[Scraper]:
    """Scrape /metrics of `replicas` every `period_s` seconds within the context.

    A replica whose metrics cannot be read is no error. One that does not answer holds up
    the beginning for `timeout_s` seconds and the end for twice as long at most, and its
    neighbours not at all.
    """
    scraper = Scraper(replicas)
    order = {
        "period_s": period_s,
        "timeout_s": timeout_s,
        "replicas": [(one.name, one.model, one.url) for one in replicas],
    }
    with subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,  # Ctrl-C reaches this process, which ends it in order
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it could not start, which `end` tells
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            process.stdout.readline()  # once every replica has been asked
            yield scraper
        finally:
            written, _ = process.communicate()
            scraper.end(written, process.returncode)
