"""Driver `builtin`: the suite's own client."""

from __future__ import annotations

import os

from bench.drivers.driver import Driven
from bench.load.run.drive import Load
from bench.load.run.processes import run_spread
from bench.load.run.shards import processes_for
from bench.processes.program import Site
from bench.records import DriverFacts


class BuiltinDriver:
    """Shares each load among `processes` of a site: if None, all its places, or enough."""

    def __init__(self, site: Site, processes: int | None = None) -> None:
        self._site = site
        self._processes = processes

    def run(self, load: Load, *, drain_timeout_s: float) -> Driven:
        """Send `load`; see `Driver`."""
        cores = len(os.sched_getaffinity(0))
        enough = self._site.shards or processes_for(load.schedule, cores)
        (result,) = run_spread(
            [load],
            self._site,
            processes=self._processes or enough,
            drain_timeout_s=drain_timeout_s,
        )
        return Driven(result, DriverFacts())
