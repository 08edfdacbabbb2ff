"""The state file of engines that were started: read, compared with what is wanted, ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environments.local.enginehost.replicas import ProcessIdentity, ReplicaSpec, is_alive
from bench.environments.local.planning import PlannedReplica
from bench.processes.shared import LOOPBACK, exclusive
from bench.progress import Progress

STOP_TIMEOUT_S = 15.0
RUN_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class RunningReplica:
    """A replica that was started, and its process."""

    spec: ReplicaSpec
    process: ProcessIdentity

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return is_alive(self.process)


@dataclass(frozen=True, slots=True)
class Engines:
    """What the state file holds: a host, the folder that is its own, and its replicas."""

    fingerprint: str
    folder: Path
    host: ProcessIdentity
    replicas: tuple[RunningReplica, ...]


def state_file(cache: Path) -> Path:
    """The state file of a cache folder's engines, which their host writes."""
    return cache / "run" / "local" / "state.json"


def read_engines(state: Path) -> Engines | None:
    """The engines of a state file; None if there are none."""
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Engines(
        fingerprint=found["fingerprint"],
        folder=Path(found["folder"]),
        host=ProcessIdentity(**found["host"]),
        replicas=tuple(_replica(**replica) for replica in found["replicas"]),
    )


def why_unusable(
    engines: Engines, wanted: Sequence[PlannedReplica], fingerprint: str
) -> str | None:
    """Why `engines` cannot serve `wanted`; None if nothing in the state file or /proc says so."""
    if not is_alive(engines.host):
        return "their host is gone"
    if engines.fingerprint != fingerprint:
        return "they are of another version"
    replicas = {replica.spec.name: replica for replica in engines.replicas}
    for plan in wanted:
        running = replicas.get(plan.name)
        if running is None:
            return f"{plan.name} is not among them"
        if not running.alive:
            return f"{plan.name} has died"
        if (running.spec.core, running.spec.argv) != (plan.core, plan.argv):
            return f"{plan.name} runs with other settings"
    return None


def end_engines(engines: Engines, state: Path) -> None:
    """End what is left of `engines`, and remove their folder and the state file."""
    _signal(engines.host, signal.SIGTERM)  # a live host ends its replicas in order
    await_end(engines.host, STOP_TIMEOUT_S)
    _signal(engines.host, signal.SIGKILL)
    for replica in engines.replicas:
        if replica.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(replica.process.pid, signal.SIGKILL)
            await_end(replica.process, STOP_TIMEOUT_S)
    shutil.rmtree(engines.folder, ignore_errors=True)
    state.unlink(missing_ok=True)


def await_end(process: ProcessIdentity, timeout_s: float) -> bool:
    """Whether `process` has ended, after waiting for that at most `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    while is_alive(process) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not is_alive(process)


def _replica(process: dict[str, int], argv: Sequence[str], **spec: Any) -> RunningReplica:
    return RunningReplica(ReplicaSpec(argv=tuple(argv), **spec), ProcessIdentity(**process))


def _signal(process: ProcessIdentity, number: signal.Signals) -> None:
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def run_lock(
    cache: Path, progress: Progress, timeout_s: float = RUN_TIMEOUT_S
) -> AbstractContextManager[None]:
    """The lock on the engines of a cache folder, which their user holds; see `exclusive`."""
    return exclusive(state_file(cache).with_name("lock"), "the engines", progress, timeout_s)


def kept_engines(cache: Path) -> tuple[str, ...]:
    """One line for every engine in the state file: name, address, core, running or dead, log."""
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
