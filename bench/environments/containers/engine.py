"""The container of an engine: its image, user, variables and arguments on either hardware.

Engines on CPUs get the arguments and variables that they have in environment `local`; engines on
GPUs load weights from the hub.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bench.config.topology import Arm, GpuEngineEntry, Hardware, Model, Topology
from bench.environments.cpu_engine import ENGINE_VARIABLES, engine_arguments

# The version of vLLM in all images of engines.
VLLM_VERSION = "0.30.0"
# Where the engine's server listens in its container.
PORT = 8000
# Where a folder of the machine with a model is mounted.
MOUNTED_MODEL = "/model"
# What Kubernetes takes for the name of a namespace.
_LONGEST_GROUP = 63


@dataclass(frozen=True, slots=True)
class EngineContainer:
    """What the container of an engine has on its hardware; `command` is empty for the image's."""

    image: str
    tag: str
    user: int
    group: int
    command: tuple[str, ...]
    variables: Mapping[str, str]


def engine_container(
    hardware: Hardware, topology: Topology, version: str, *, kvcached: bool
) -> EngineContainer:
    """The container of an engine. `version` is that of the suite's own images.

    With `kvcached` it is the image with KVCached, which there is for GPUs alone. That image asks
    for a name of its own for each engine: KVCACHED_IPC_NAME, which is not among `variables`.
    """
    own = _tables()[hardware]
    variables = dict(own["variables"])
    image, tag = own["image"], f"v{VLLM_VERSION}"
    if hardware == "cpu":
        variables, tag = {**ENGINE_VARIABLES, **variables}, version
    elif kvcached:
        added = _tables()["kvcached"]
        image, tag = added["image"], f"{added['tag']}{VLLM_VERSION}"
        variables |= kvcached_variables(topology.gpu_engine)
    command = tuple(own.get("command", ()))
    return EngineContainer(image, tag, own["user"], own["group"], command, variables)


def kvcached_variables(engine: GpuEngineEntry) -> Mapping[str, str]:
    """What KVCached is told: as much memory as vLLM has without it, no bound on prefixes."""
    share = {"KVCACHED_GPU_UTILIZATION": gpu_memory_share(engine)}
    return {**_tables()["kvcached"]["variables"], **share}


def has_kvcached(arm: Arm, hardware: Hardware) -> bool:
    """Whether the engines of an arm have KVCached, which there is for GPUs alone."""
    return arm.kvcached and hardware == "gpu"


def engine_group(arm: Arm) -> str:
    """The group of engines that an arm uses: with KVCached or without, and with its own flags.

    It is the name of a namespace. One that is too long ends in a digest of the whole.
    """
    flags = [f"{name}-{value}" for name, value in arm.engine.given.items()]
    named = "-".join(("managed" if arm.kvcached else "baseline", *flags))
    group = re.sub("[^a-z0-9]+", "-", named)
    if len(group) <= _LONGEST_GROUP:
        return group
    digest = hashlib.sha256(group.encode()).hexdigest()[:8]
    return f"{group[: _LONGEST_GROUP - 9].rstrip('-')}-{digest}"


def arguments(model: Model, topology: Topology) -> Sequence[str]:
    """Arguments of a model's engines, without their address."""
    if model.hub is None:
        folder = f"/opt/models/{model.architecture}" if model.architecture else MOUNTED_MODEL
        return engine_arguments(model, folder, topology.engine)
    engine = topology.gpu_engine
    parallel = ["--tensor-parallel-size", str(model.gpus)] if model.gpus > 1 else []
    return [
        model.hub,
        *("--served-model-name", model.name),
        *("--max-model-len", str(engine.max_model_len)),
        *("--gpu-memory-utilization", gpu_memory_share(engine)),
        *("--max-num-seqs", str(engine.max_num_seqs)),
        *parallel,
        "--disable-uvicorn-access-log",
    ]


def gpu_memory_share(engine: GpuEngineEntry) -> str:
    """The share of a GPU's memory that an engine takes, as text."""
    return f"{engine.gpu_memory_utilization:g}"


@cache
def _tables() -> Mapping[str, Any]:
    text = Path(__file__).with_name("hardware.yaml").read_text(encoding="utf-8")
    tables: Mapping[str, Any] = yaml.safe_load(text)
    return tables
