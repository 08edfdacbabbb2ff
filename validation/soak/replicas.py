"""What the balancers are in front of: replicas as processes that can be started again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench.config.topology import load_topology
from bench.environments.cpu_engine.models import model_folder
from bench.environments.local.enginehost.replicas import ReplicaSpec
from bench.environments.local.engines import EngineSet
from bench.environments.local.host import host_fingerprint, state_file
from bench.environments.local.install import ensure_engine
from bench.environments.local.starting import (
    available_memory,
    check_memory,
    plan_replicas,
    replica_bytes,
)
from bench.errors import UserError
from bench.load.accuracy.answers import MODEL
from bench.processes.guarded import Guarded, last_lines
from bench.processes.ports import LOOPBACK, accepts_connections, free_ports
from bench.processes.venv import Venv
from bench.progress import Progress
from bench.records import Replica
from validation.harness import ROOT

SCRIPTED = 3
_FIRST_PORT = 18100
_START_TIMEOUT_S = 30.0


class Upstream(Protocol):
    """A replica at an address that stays. `start` returns when it answers; all can be repeated."""

    replica: Replica

    def start(self) -> None: ...

    def groups(self) -> tuple[int, ...]:
        """The process groups that it runs in."""
        ...

    def stop(self) -> None:
        """End it, whatever state it is in."""
        ...


class Scripted(Upstream):
    """A server of `validation.soak.upstream` in that mode; no engine."""

    def __init__(self, model: str, name: str, port: int, logs: Path, mode: str, seed: int) -> None:
        self.replica = Replica(model, name, f"http://{LOOPBACK}:{port}")
        self._port = port
        self._log = logs / f"{name}.log"
        self._command = [
            *(sys.executable, "-m", "validation.soak.upstream"),
            *(str(port), model, mode, str(seed)),
        ]
        self._process: Guarded | None = None

    def start(self) -> None:
        self._process = Guarded(self._command, log=self._log, folder=ROOT)
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not accepts_connections(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                why = last_lines(self._log) or "it printed nothing"
                raise UserError(f"{self.replica.name} does not start: {why}; see {self._log}")
            time.sleep(0.05)

    def groups(self) -> tuple[int, ...]:
        pid = None if self._process is None else self._process.command_pid
        return () if pid is None else (pid,)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()


class Engine(Upstream):
    """A vLLM engine of environment `local` with a host of its own, so that it starts by itself."""

    def __init__(
        self, spec: ReplicaSpec, venv: Venv, port: int, logs: Path, progress: Progress
    ) -> None:
        self.replica = Replica(spec.model, spec.name, f"http://{LOOPBACK}:{port}")
        self._spec, self._venv, self._port = spec, venv, port
        self._cache = logs / spec.name
        self._progress = progress
        state_file(self._cache).parent.mkdir(parents=True)
        self._set = self._new_set()

    def start(self) -> None:
        self._set = self._new_set()
        fingerprint = host_fingerprint(self._venv.fingerprint)
        self._set.start(self._venv.python, [self._spec], fingerprint, iter([self._port]))

    def groups(self) -> tuple[int, ...]:
        return self._set.processes()

    def stop(self) -> None:
        self._set.release(keep=False)

    def _new_set(self) -> EngineSet:
        return EngineSet(self._cache, self._cache, self._progress)


@contextmanager
def upstreams(
    kind: str, model: str, logs: Path, seed: int, progress: Progress
) -> Iterator[tuple[list[Upstream], Scripted]]:
    """Started replicas, and one more that is not started and answers garbage; all end with this.

    `kind` is `engines`, of that model of the topology, or `scripted`. Raises UserError.
    """
    if kind == "engines":
        ports = free_ports(_FIRST_PORT, ())
        made = _engines(model, ports, logs, progress)
    else:
        model, ports = MODEL, free_ports(_FIRST_PORT, ())
        made = [
            Scripted(model, f"scripted-{index}", next(ports), logs, "well", seed)
            for index in range(SCRIPTED)
        ]
    garbage = Scripted(model, "garbage", next(ports), logs, "garbage", seed)
    try:
        for one in made:
            one.start()
        yield made, garbage
    finally:
        for one in (*made, garbage):
            one.stop()


def _engines(model: str, ports: Iterator[int], logs: Path, progress: Progress) -> list[Upstream]:
    topology, cache = load_topology(), ROOT / ".cache"
    models = topology.select_models([model], "cpu", "local")
    venv = ensure_engine(cache, progress)
    folders = {one.name: model_folder(one, cache) for one in models}
    cores = sorted(os.sched_getaffinity(0))
    specs: Sequence[ReplicaSpec] = plan_replicas(topology, models, folders, cores)
    needed = [replica_bytes(topology.engine, folders[spec.model]) for spec in specs]
    check_memory(needed, available_memory())
    return [Engine(spec, venv, next(ports), logs, progress) for spec in specs]
