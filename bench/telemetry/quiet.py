"""Waiting until nothing else takes the machine's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from bench.analysis.bounds import ValidityBounds
from bench.progress import Step
from bench.telemetry.cpu import CpuShares, CpuWatch

# Long enough for shares of CPU time that mean something.
_LOOK_S = 2.0
# A passing job is over by then. A machine that stays busy is for its user to free.
LIMIT_S = 60.0


def await_quiet(
    roots: Collection[int] | None,
    cores: Collection[int],
    bounds: ValidityBounds,
    step: Step,
    *,
    limit_s: float = LIMIT_S,
    look: Callable[[Collection[int] | None, Collection[int]], CpuShares] | None = None,
) -> bool:
    """Wait until others leave the cores alone; False if they did not within `limit_s`.

    `roots` are the processes whose time is the bench's own. Where it cannot be known whose
    time it was, there is nothing to wait for. `look` takes some time and tells the shares.
    """
    began_s = time.monotonic()
    while True:
        shares = (look or _look)(roots, cores)
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


def _look(roots: Collection[int] | None, cores: Collection[int]) -> CpuShares:
    watch = CpuWatch(roots, cores)
    time.sleep(_LOOK_S)
    return watch.stop()
