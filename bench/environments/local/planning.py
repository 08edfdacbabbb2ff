"""What is to run: every replica with its core and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.topology import Model, Topology
from bench.environments.cpu_engine.flags import MIB, engine_arguments
from bench.environments.cpu_engine.models import weight_bytes


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
