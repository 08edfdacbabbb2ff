"""What is to run: every replica with its core and arguments, and whether all fit into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.config.topology import Model, Topology
from bench.environments.cpu_engine.flags import MIB, engine_arguments
from bench.environments.cpu_engine.models import weight_bytes
from bench.errors import UserError

GIB = 1024**3
# Measured as proportional set size, rounded up: the host while it imports, and per
# replica its server and engine without KV cache and weights.
HOST_BYTES = 0.6 * GIB
REPLICA_BYTES = 0.4 * GIB


@dataclass(frozen=True, slots=True)
class PlannedReplica:
    """A replica to run: what stays the same from one start to the next.

    `memory_bytes` is the size of its KV cache and weights.
    """

    name: str
    model: str
    core: int
    argv: tuple[str, ...]
    memory_bytes: int


def plan_replicas(
    topology: Topology,
    models: Sequence[Model],
    folders: Mapping[str, Path],
    cores: Sequence[int],
) -> tuple[PlannedReplica, ...]:
    """Plan every replica of `models`, whose folders are given by name.

    The replicas of the whole topology take `cores` in turn. So a replica keeps its core
    whichever models are picked, and two of one model share a core only if there are too few.
    """
    every = [name for model in topology.models_for("cpu") for name in _replica_names(model)]
    return tuple(
        PlannedReplica(
            name=name,
            model=model.name,
            core=cores[every.index(name) % len(cores)],
            argv=engine_arguments(model, str(folders[model.name]), topology.engine),
            memory_bytes=topology.engine.kv_cache_mib * MIB + weight_bytes(folders[model.name]),
        )
        for model in models
        for name in _replica_names(model)
    )


def _replica_names(model: Model) -> list[str]:
    return [f"{model.name}-{index}" for index in range(model.replicas)]


def check_memory(replicas: Sequence[PlannedReplica], available_bytes: float) -> None:
    """Raise UserError, with the numbers, if `replicas` would not fit."""
    needed = HOST_BYTES + sum(REPLICA_BYTES + replica.memory_bytes for replica in replicas)
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
