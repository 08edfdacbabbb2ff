"""What is to run: every replica with its core and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.topology import Model, Topology
from bench.environments.cpu_engine.flags import MIB, engine_arguments
from bench.environments.cpu_engine.models import weight_bytes
import psutil
from bench.errors import UserError


@dataclass(frozen=True, slots=True)
class PlannedReplica:
    """A replica to run, apart from what may change between starts.

    `memory_bytes` is its KV cache and weights.
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

    Replicas take `cores` in turn through the whole topology, so that a replica keeps its
    core whichever models are picked, and those of one model never share one needlessly.
    """
    places = [
        (model.name, index)
        for model in topology.models_for("cpu")
        for index in range(model.replicas)
    ]
    return tuple(
        PlannedReplica(
            name=f"{model.name}-{index}",
            model=model.name,
            core=cores[places.index((model.name, index)) % len(cores)],
            argv=engine_arguments(model, str(folders[model.name]), topology.engine),
            memory_bytes=topology.engine.kv_cache_mib * MIB + weight_bytes(folders[model.name]),
        )
        for model in models
        for index in range(model.replicas)
    )


GIB = 1024**3
# Measured as proportional set size, rounded up: the host while it imports, and per
# replica its server and engine without KV cache and weights.
HOST_BYTES = 0.6 * GIB
REPLICA_BYTES = 0.4 * GIB


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
    """Bytes that can still be had, within the machine and within a container's limit."""
    available = float(psutil.virtual_memory().available)
    try:
        limit = (control_group / "memory.max").read_text().strip()
        used = int((control_group / "memory.current").read_text())
    except OSError:
        return available
    return available if limit == "max" else min(available, float(int(limit) - used))
