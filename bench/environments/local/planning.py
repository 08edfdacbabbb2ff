"""What is to run: every replica with its core and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.environments.local.models import weight_bytes
from bench.topology import EngineEntry, Model, Topology

MIB = 1024**2


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
        (model.name, index) for model in topology.models.values() for index in range(model.replicas)
    ]
    return tuple(
        PlannedReplica(
            name=f"{model.name}-{index}",
            model=model.name,
            core=cores[places.index((model.name, index)) % len(cores)],
            argv=engine_arguments(model, folders[model.name], topology.engine),
            memory_bytes=topology.engine.kv_cache_mib * MIB + weight_bytes(folders[model.name]),
        )
        for model in models
        for index in range(model.replicas)
    )


def engine_arguments(model: Model, folder: Path, engine: EngineEntry) -> tuple[str, ...]:
    """Arguments of vLLM's server, apart from its address."""
    arguments = [
        *("--model", str(folder)),
        *("--served-model-name", model.name),
        *("--max-model-len", str(engine.max_model_len)),
        *("--max-num-seqs", str(engine.max_num_seqs)),
        *("--kv-cache-memory-bytes", str(engine.kv_cache_mib * MIB)),
        # One process per engine, forked by its server; see `enginehost`.
        *("--distributed-executor-backend", "uni"),
        "--enforce-eager",
        "--disable-uvicorn-access-log",
    ]
    if model.random_weights:
        arguments += ["--load-format", "dummy"]
    return tuple(arguments)
