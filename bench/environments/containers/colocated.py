"""Engines of several models in one container that has a GPU: layout colocated.

Memory is all in which arms with KVCached and without differ. Without it each engine has an equal
part of what the topology file lets engines take; with it each may take all of that. No engine
caches prefixes: with KVCached they would take memory from its peers, and without it they would not.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.config.memory import equal_share
from bench.config.topology import Model, Topology
from bench.environments.containers.engine import PORT, arguments, engine_container

LAUNCHER = Path(__file__).with_name("launcher.py")
MOUNTED_LAUNCHER = "/opt/llm-bench/launcher.py"
# The launcher needs no packages, and without them (-S) KVCached does not patch it.
COMMAND = ("python3", "-IS", MOUNTED_LAUNCHER)


def engine_lines(models: Sequence[Model], topology: Topology, *, kvcached: bool) -> tuple[str, ...]:
    """Arguments of the launcher: the line of each model's engine, which has the next port."""
    command = engine_container("gpu", topology, "", kvcached=kvcached).command
    engine = topology.gpu_engine
    if not kvcached:
        share = equal_share(engine.gpu_memory_utilization, len(models))
        topology = replace(topology, gpu_engine=replace(engine, gpu_memory_utilization=share))
    return tuple(
        shlex.join(
            [
                *(model.name, f"{port}"),
                *(("env", f"KVCACHED_IPC_NAME={ipc_name(model)}") if kvcached else ()),
                *(*command, *arguments(model, topology), "--no-enable-prefix-caching"),
                *("--port", f"{port}", "--shutdown-timeout", "120"),
            ]
        )
        for port, model in enumerate(models, PORT)
    )


def ipc_name(model: Model) -> str:
    """A name for KVCached that no other engine in the container has."""
    return re.sub("[^a-z0-9]", "_", model.name.lower())


def times(quantity: str, count: int) -> str:
    """A quantity such as `2`, `10Gi` or `2g` so many times."""
    number = quantity.rstrip(string.ascii_letters)
    return f"{int(number) * count}{quantity.removeprefix(number)}"


def ports_of(lines: Iterable[str]) -> Mapping[str, int]:
    """The port of each engine by its model, from arguments of the launcher."""
    return {name: int(port) for name, port, *_ in map(shlex.split, lines)}


def health_command(ports: Mapping[str, int]) -> list[str]:
    """A command in the container that fails unless all engines are healthy, by model and port."""
    return [*COMMAND, "--health", *(f"{name}:{port}" for name, port in ports.items())]
