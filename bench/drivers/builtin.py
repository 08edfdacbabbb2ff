"""Driver `builtin`: the suite's own client."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench.drivers.driver import Setup
from bench.load.run.drive import DriveResult, Load
from bench.load.run.processes import run_spread
from bench.load.run.shards import processes_for
from bench.processes.program import Site


@dataclass(frozen=True, slots=True)
class BuiltinDriver:
    """Shares each load among `processes` of a site: if None, all its places, or enough."""

    site: Site
    processes: int | None = None

    def run(self, load: Load, *, drain_timeout_s: float) -> DriveResult:
        """Send `load`; see `Driver`."""
        cores = len(os.sched_getaffinity(0))
        processes = self.processes or self.site.shards or processes_for(load.schedule, cores)
        (result,) = run_spread(
            [load], self.site, processes=processes, drain_timeout_s=drain_timeout_s
        )
        return result


def make(setup: Setup) -> BuiltinDriver:
    """The driver for the site of `setup`."""
    return BuiltinDriver(setup.site, setup.processes)
