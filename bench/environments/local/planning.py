"""What is to run: every replica with its core and arguments, and whether all fit into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench.config.topology import EngineEntry, Model, Topology
from bench.environments.cpu_engine import MIB, engine_arguments
from bench.environments.cpu_engine.models import weight_bytes
from bench.environments.local.enginehost.replicas import ReplicaSpec
from bench.errors import UserError

GIB = 1024**3
# Measured as proportional set size, rounded up: the host while it imports, and per
# replica its server and engine without KV cache and weights.
HOST_BYTES = 0.6 * GIB
SERVER_BYTES = 0.4 * GIB


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
    every = [name for model in topology.models_for("cpu") for name in _replica_names(model)]
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
