"""Scraping from the side of the experiment: begins before a trial, ends after it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from bench.errors import UserError
from bench.processes.program import END, Program, Site, read_block
from bench.records import Replica, ServerReading, ServerSeries

PERIOD_S = 0.25
TIMEOUT_S = 5.0
# For the last readings to come back, and before: for the program to come up.
_PATIENCE_S = 30.0


class Scraper:
    """The readings of every replica, once scraping has ended."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._series = tuple(ServerSeries(replica.name, ()) for replica in replicas)
        self._lost: str | None = None

    def since(self, start_s: float) -> tuple[ServerSeries, ...]:
        """What was read; times are counted from `start_s` of the clock of place 0.

        There is at least one reading of each replica before the context was entered, and
        one after it was left; those that failed say why. Where all is lost, there is one that
        says so, at the start.
        """
        if self._lost is not None:
            none = ServerReading(due_s=0.0, at_s=0.0, error=self._lost)
            return tuple(ServerSeries(one.replica, (none,)) for one in self._series)
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

    def end(self, program: Program, timeout_s: float) -> None:
        """Let the program that scrapes end, and take what it has read."""
        program.send(END)
        try:
            rows = json.loads(read_block(program, timeout_s))
        except (UserError, ValueError) as error:
            self._lost = f"the program that scrapes is lost: {error}"
            return
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
    replicas: Sequence[Replica],
    site: Site,
    period_s: float = PERIOD_S,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Scraper]:
    """Scrape /metrics of `replicas` every `period_s` seconds within the context.

    It is done in place 0 of `site`, on the clock of that place. A replica whose metrics
    cannot be read is no error. One that does not answer holds up the beginning for
    `timeout_s` seconds and the end for twice as long at most, and its neighbours not at all.
    """
    scraper = Scraper(replicas)
    order = {
        "period_s": period_s,
        "timeout_s": timeout_s,
        "replicas": [(one.name, one.model, one.url) for one in replicas],
    }
    program = site.start("bench.telemetry.scrape_process", [], 0)
    try:
        program.send(json.dumps(order).encode() + b"\n")
        with contextlib.suppress(UserError):  # it could not start, which `end` tells
            program.line(timeout_s + _PATIENCE_S)  # once every replica has been asked
        try:
            yield scraper
        finally:
            scraper.end(program, 2 * timeout_s + _PATIENCE_S)
    finally:
        program.close()
