"""Driver `builtin`: the suite's own client."""

from __future__ import annotations

import os

from bench.drivers.driver import Driven
from bench.load.drive import Load
from bench.load.processes import run_spread
from bench.load.shards import processes_for
from bench.records import DriverFacts


class BuiltinDriver:
    """Shares each load among `processes`, as many as suffice if None."""

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes

    def run(self, load: Load, *, drain_timeout_s: float) -> Driven:
        """Send `load`; see `Driver`."""
        cores = len(os.sched_getaffinity(0))
        processes = self._processes or processes_for(load.schedule, cores)
        result = run_spread(load, processes=processes, drain_timeout_s=drain_timeout_s)
        return Driven(result, DriverFacts())
