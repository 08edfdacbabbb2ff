"""What sets one kind of engine apart from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.environments.cpu_engine.flags import ENGINE_VARIABLES, engine_arguments
from bench.topology import EngineEntry, GpuEngineEntry, Model

# The version of vLLM in all images of engines.
VLLM_VERSION = "0.30.0"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume and where it is mounted; `source` is the volume's, as in a pod."""

    name: str
    path: str
    source: Mapping[str, Any]
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine's container and what its pod needs for it.

    `command` is the image's own if empty. `user` and `group` are numbers that the image
    knows.
    """

    image: str
    command: Sequence[str]
    arguments: Sequence[str]
    variables: Sequence[Mapping[str, Any]]
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    user: int
    group: int
    volumes: Sequence[Volume]
    tolerations: Sequence[Mapping[str, Any]] = ()


def variable(name: str, value: str) -> Mapping[str, Any]:
    """An environment variable."""
    return {"name": name, "value": value}


def memory(name: str, path: str, size: str) -> Volume:
    """A folder in memory, which counts for the pod's limit."""
    return Volume(name, path, {"emptyDir": {"medium": "Memory", "sizeLimit": size}})


def scratch(name: str, path: str, size: str) -> Volume:
    """A folder on the node's disk that goes with the pod."""
    return Volume(name, path, {"emptyDir": {"sizeLimit": size}})


def node_folder(name: str, path: str, node_path: str, *, read_only: bool = False) -> Volume:
    """A folder of the node. It has to be there: one made for the pod would be root's."""
    return Volume(name, path, {"hostPath": {"path": node_path, "type": "Directory"}}, read_only)


IMAGE = "llm-bench-engine-cpu"
# Where the image has the tiny models, one folder for each architecture.
TINY_MODELS = "/opt/models"
OWN_MODEL = "/model"
USER = 65532


def cpu_engine(model: Model, engine: EngineEntry, version: str) -> EngineSpec:
    """An engine of a tiny model, or of a folder that the nodes have."""
    folder = OWN_MODEL if model.architecture is None else f"{TINY_MODELS}/{model.architecture}"
    variables = {
        **ENGINE_VARIABLES,
        "HOME": "/tmp",
        "HF_HOME": "/tmp/huggingface",
        "VLLM_CACHE_ROOT": "/tmp/vllm",
    }
    return EngineSpec(
        image=f"{IMAGE}:{version}",
        command=(),
        arguments=engine_arguments(model, folder, engine),
        variables=[variable(name, value) for name, value in variables.items()],
        # One core at most, as environment `local` pins them. A tiny model takes 1.1 GiB, and
        # asks for little, so that six fit a laptop.
        requests={"cpu": "250m", "memory": "1280Mi"},
        limits={"cpu": "1", "memory": "2Gi"},
        user=USER,
        group=USER,
        volumes=[memory("shm", "/dev/shm", "256Mi"), scratch("tmp", "/tmp", "1Gi"), *_own(model)],
    )


def _own(model: Model) -> list[Volume]:
    if model.path is None:
        return []
    return [node_folder("model", OWN_MODEL, str(model.path), read_only=True)]


IMAGE, TAG = "vllm/vllm-openai", f"v{VLLM_VERSION}"
KVCACHED_IMAGE = "ghcr.io/ovg-project/kvcached-vllm"
KVCACHED_TAG = f"kvcached-v0.1.6-vllm-v{VLLM_VERSION}"
# The user `vllm` of these images, whose files are in group 0.
USER, GROUP = 2000, 0
HOME = "/home/vllm"
MODEL_CACHE = "/mnt/model-cache/huggingface"
TOKEN_SECRET, TOKEN_KEY = "hf-token", "HF_TOKEN"


def gpu_engine(model: Model, engine: GpuEngineEntry) -> EngineSpec:
    """An engine of a model of the hub."""
    gpus = {"nvidia.com/gpu": str(model.gpus)}
    token = {"secretKeyRef": {"name": TOKEN_SECRET, "key": TOKEN_KEY}}
    return EngineSpec(
        image=f"{IMAGE}:{TAG}",
        # As in the image. That with KVCached is made from it, but has a shell in its place.
        command=("vllm", "serve"),
        arguments=gpu_arguments(model, engine),
        variables=[
            variable("HOME", HOME),
            variable("HF_HOME", MODEL_CACHE),
            {"name": "HF_TOKEN", "valueFrom": token},
            variable("VLLM_NO_USAGE_STATS", "1"),
        ],
        # So that an engine fits the smallest node that has such a GPU (4 CPUs, 16 GB), and is
        # not throttled on a larger one.
        requests={"cpu": "2", "memory": "10Gi", **gpus},
        limits={"cpu": "8", "memory": "32Gi", **gpus},
        user=USER,
        group=GROUP,
        volumes=[
            memory("shm", "/dev/shm", "2Gi"),
            scratch("tmp", "/tmp", "4Gi"),
            scratch("home", HOME, "16Gi"),
            node_folder("model-cache", MODEL_CACHE, MODEL_CACHE),
        ],
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    )


def gpu_arguments(model: Model, engine: GpuEngineEntry) -> tuple[str, ...]:
    """Arguments of `vllm serve`, apart from its address."""
    assert model.hub is not None
    arguments = [
        model.hub,
        *("--served-model-name", model.name),
        *("--max-model-len", str(engine.max_model_len)),
        *("--gpu-memory-utilization", _share(engine)),
        *("--max-num-seqs", str(engine.max_num_seqs)),
    ]
    if model.gpus > 1:
        arguments += ["--tensor-parallel-size", str(model.gpus)]
    return (*arguments, "--disable-uvicorn-access-log")


def kvcached_variables(engine: GpuEngineEntry) -> tuple[Mapping[str, Any], ...]:
    """What turns KVCached on, with as much memory and prefix cache as vLLM has without."""
    pod = {"fieldRef": {"fieldPath": "metadata.name"}}
    return (
        variable("ENABLE_KVCACHED", "true"),
        variable("KVCACHED_AUTOPATCH", "1"),
        # The image has one name for all, which engines that see each other must not share.
        {"name": "KVCACHED_IPC_NAME", "valueFrom": pod},
        variable("KVCACHED_GPU_UTILIZATION", _share(engine)),
        # No bound but room; by default prefixes of 16,000 tokens stay cached at most.
        variable("KVCACHED_MAX_CACHED_TOKENS", "-1"),
    )


def _share(engine: GpuEngineEntry) -> str:
    return f"{engine.gpu_memory_utilization:g}"
