"""Driver `builtin`: the suite's own client."""

from __future__ import annotations

from bench.drivers.driver import Driven
from bench.load.drive import Load, run_load
from bench.records import DriverFacts


class BuiltinDriver:
    """`run_load` as a driver."""

    def run(self, load: Load, *, drain_timeout_s: float) -> Driven:
        """Send `load`; see `Driver`."""
        return Driven(run_load(load, drain_timeout_s=drain_timeout_s), DriverFacts())
