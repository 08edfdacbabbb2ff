"""Waits until other programs leave the machine's CPU time alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from bench.analysis.checks import ValidityBounds
from bench.progress import Step
from bench.telemetry.cpu import CpuShares, CpuWatch

# Long enough for shares of CPU time to be meaningful.
_SAMPLE_S = 2.0
# A short job is over by then; a machine that stays busy must be freed by its user.
LIMIT_S = 60.0


def measure_shares(roots: Collection[int] | None, cores: Collection[int]) -> CpuShares:
    """The shares within the next 2 s; see `CpuWatch`."""
    watch = CpuWatch(roots, cores)
    time.sleep(_SAMPLE_S)
    return watch.stop()


def await_quiet(
    roots: Collection[int] | None,
    cores: Collection[int],
    bounds: ValidityBounds,
    step: Step,
    *,
    limit_s: float = LIMIT_S,
    measure: Callable[[Collection[int] | None, Collection[int]], CpuShares] = measure_shares,
) -> bool:
    """Wait until other programs' share of `cores` is within `bounds`.

    Returns whether it is, after at most `limit_s` seconds; True where it cannot be measured.
    `roots` are the bench's own processes. `measure` waits and returns the shares.
    """
    began_s = time.monotonic()
    while True:
        shares = measure(roots, cores)
        foreign, stolen = shares.foreign or 0.0, shares.stolen or 0.0
        if foreign <= bounds.foreign_cpu_share and stolen <= bounds.stolen_cpu_share:
            return True
        waited_s = time.monotonic() - began_s
        if waited_s >= limit_s:
            return False
        step.update(
            f"waiting for other programs, which take {max(foreign, stolen):.0%} of the machine,"
            f" for {waited_s:.0f} s of at most {limit_s:.0f}"
        )
