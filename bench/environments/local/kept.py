"""Engines that a run left running on purpose: listed, and ended."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from bench.environments.local.state import end_engines, read_engines, state_file
from bench.processes.lock import exclusive
from bench.processes.resources import LOOPBACK
from bench.progress import Progress

RUN_TIMEOUT_S = 1800.0


def run_lock(
    cache: Path, progress: Progress, timeout_s: float = RUN_TIMEOUT_S
) -> AbstractContextManager[None]:
    """The lock that whoever uses the engines of a cache folder holds; see `exclusive`."""
    return exclusive(state_file(cache).with_name("lock"), "the engines", progress, timeout_s)


def kept_engines(cache: Path) -> tuple[str, ...]:
    """One line for every engine that runs or has died: name, address, core, state, log."""
    engines = read_engines(state_file(cache))
    return tuple(
        f"{replica.spec.name}  http://{LOOPBACK}:{replica.spec.port}  core {replica.spec.core}  "
        f"{'running' if replica.alive else 'dead'}  {replica.spec.log}"
        for replica in (engines.replicas if engines else ())
    )


def stop_kept(cache: Path, progress: Progress) -> bool:
    """End the engines that were kept; False if there were none.

    Raises UserError if a run is using them.
    """
    with run_lock(cache, progress, timeout_s=0.0):
        state = state_file(cache)
        engines = read_engines(state)
        if engines is not None:
            end_engines(engines, state)
        return engines is not None
