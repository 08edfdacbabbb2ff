"""The objects of a model's engines: engine.yaml with what depends on the model and its hardware.

Engines on CPUs get the arguments and variables that they have in environment `local`; engines on
GPUs load weights from the hub.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.config.topology import EngineEntry, GpuEngineEntry, Model, Topology
from bench.environments.cpu_engine import ENGINE_VARIABLES, engine_arguments
from bench.environments.kubernetes.objects import (
    ENGINE,
    MODEL_LABEL,
    OURS,
    Object,
    deployment_name,
    object_name,
)

TEMPLATE = Path(__file__).with_name("engine.yaml")
# The version of vLLM in all images of engines.
VLLM_VERSION = "0.30.0"
CPU_IMAGE = "llm-bench-engine-cpu"
GPU_IMAGE = "vllm/vllm-openai"
# The user of the CPU image, and the user `vllm` of the GPU images, whose files are in group 0.
CPU_USER = CPU_GROUP = 65532
GPU_USER, GPU_GROUP = 2000, 0
GPU_HOME = "/home/vllm"
MODEL_CACHE = "/mnt/model-cache/huggingface"
# Where a folder of the node with a model is mounted.
MOUNTED_MODEL = "/model"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume, and the path that it is mounted at; `source` as in the spec of a pod."""

    name: str
    path: str
    source: Object
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The container of an engine, and what its pod needs for it.

    An empty `command` is the image's own. A variable is a text, or an object that says where its
    value comes from. `user` and `group` are numeric ids that exist in the image.
    """

    image: str
    command: Sequence[str]
    arguments: Sequence[str]
    variables: Mapping[str, str | Object]
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    user: int
    group: int
    volumes: Sequence[Volume]
    tolerations: Sequence[Object] = ()


def engine_objects(model: Model, spec: EngineSpec) -> tuple[Object, ...]:
    """Deployment, Service and PodDisruptionBudget of a model's engines, without a namespace."""
    deployment, service, budget = yaml.safe_load_all(TEMPLATE.read_text(encoding="utf-8"))
    name, service_name = deployment_name(model.name), object_name(model.name)
    # The selector of a Deployment can never be changed.
    selector = {"app.kubernetes.io/component": ENGINE, MODEL_LABEL: model.name}
    labels = {
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/version": VLLM_VERSION,
        **OURS,
        **selector,
    }
    for one, named in ((deployment, name), (service, service_name), (budget, name)):
        one["metadata"].update(name=named, labels=labels)
    service["spec"]["selector"] = selector
    budget["spec"]["selector"]["matchLabels"] = selector
    deployment["spec"]["replicas"] = model.replicas
    deployment["spec"]["selector"]["matchLabels"] = selector
    template = deployment["spec"]["template"]
    template["metadata"]["labels"] = labels
    template["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] = selector
    _fill_in(template["spec"], spec)
    return deployment, service, budget


def environment(variables: Mapping[str, str | Object]) -> list[Object]:
    """The `env` of a container."""
    return [
        {"name": name, "value" if isinstance(value, str) else "valueFrom": value}
        for name, value in variables.items()
    ]


def _fill_in(pod: Object, spec: EngineSpec) -> None:
    """Fill in what the spec says of a pod and its container."""
    pod["securityContext"].update(runAsUser=spec.user, runAsGroup=spec.group)
    pod["tolerations"] = spec.tolerations
    pod["volumes"] = [{"name": one.name, **one.source} for one in spec.volumes]
    (container,) = pod["containers"]
    container["resources"].update(requests=spec.requests, limits=spec.limits)
    container.update(
        image=spec.image,
        command=spec.command,
        args=[*spec.arguments, *container["args"]],
        env=environment(spec.variables),
        volumeMounts=[_mount(one) for one in spec.volumes],
    )
    for part, key in ((pod, "tolerations"), (container, "command")):
        if not part[key]:
            del part[key]


def _mount(volume: Volume) -> Object:
    mount: Object = {"name": volume.name, "mountPath": volume.path}
    return {**mount, "readOnly": True} if volume.read_only else mount


def engine_spec(model: Model, topology: Topology, version: str) -> EngineSpec:
    """The spec of a model's engines; `version` is that of the suite's own images."""
    if model.hardware == "gpu":
        return _gpu_engine(model, topology.gpu_engine)
    return _cpu_engine(model, topology.engine, version)


def gpu_memory_share(engine: GpuEngineEntry) -> str:
    """The share of a GPU's memory that an engine takes, as text."""
    return f"{engine.gpu_memory_utilization:g}"


def _cpu_engine(model: Model, engine: EngineEntry, version: str) -> EngineSpec:
    """An engine of a tiny model that the image has, or of a folder of the node."""
    volumes = [_memory("shm", "/dev/shm", "256Mi"), _scratch("tmp", "/tmp", "1Gi")]
    if model.path is not None:
        volumes.append(_node_folder("model", MOUNTED_MODEL, str(model.path), read_only=True))
    folder = f"/opt/models/{model.architecture}" if model.architecture else MOUNTED_MODEL
    return EngineSpec(
        image=f"{CPU_IMAGE}:{version}",
        command=(),
        arguments=engine_arguments(model, folder, engine),
        variables={
            **ENGINE_VARIABLES,
            "HOME": "/tmp",
            "HF_HOME": "/tmp/huggingface",
            "VLLM_CACHE_ROOT": "/tmp/vllm",
        },
        # One core at most, as environment `local` pins them. A tiny model takes 1.1 GiB, and
        # requests little CPU, so that six fit a laptop.
        requests={"cpu": "250m", "memory": "1280Mi"},
        limits={"cpu": "1", "memory": "2Gi"},
        user=CPU_USER,
        group=CPU_GROUP,
        volumes=volumes,
    )


def _gpu_engine(model: Model, engine: GpuEngineEntry) -> EngineSpec:
    """An engine of a model of the hub."""
    gpus = {"nvidia.com/gpu": str(model.gpus)}
    return EngineSpec(
        image=f"{GPU_IMAGE}:v{VLLM_VERSION}",
        # The image's own. The image with KVCached is derived from it, but starts a shell.
        command=("vllm", "serve"),
        arguments=_gpu_arguments(model, engine),
        variables={
            "HOME": GPU_HOME,
            "HF_HOME": MODEL_CACHE,
            "HF_TOKEN": {"secretKeyRef": {"name": "hf-token", "key": "HF_TOKEN"}},
            "VLLM_NO_USAGE_STATS": "1",
        },
        # An engine fits the smallest node that has such a GPU (4 CPUs, 16 GB), and is not
        # throttled on a larger one.
        requests={"cpu": "2", "memory": "10Gi", **gpus},
        limits={"cpu": "8", "memory": "32Gi", **gpus},
        user=GPU_USER,
        group=GPU_GROUP,
        volumes=[
            _memory("shm", "/dev/shm", "2Gi"),
            _scratch("tmp", "/tmp", "4Gi"),
            _scratch("home", GPU_HOME, "16Gi"),
            _node_folder("model-cache", MODEL_CACHE, MODEL_CACHE),
        ],
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    )


def _gpu_arguments(model: Model, engine: GpuEngineEntry) -> Sequence[str]:
    """Arguments of `vllm serve`, without its address."""
    assert model.hub is not None
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


def _memory(name: str, path: str, size: str) -> Volume:
    """A folder in memory, which counts towards the pod's memory limit."""
    return Volume(name, path, {"emptyDir": {"medium": "Memory", "sizeLimit": size}})


def _scratch(name: str, path: str, size: str) -> Volume:
    """A folder on the node's disk that is deleted with the pod."""
    return Volume(name, path, {"emptyDir": {"sizeLimit": size}})


def _node_folder(name: str, path: str, node_path: str, *, read_only: bool = False) -> Volume:
    """A folder of the node. It has to exist: Kubernetes would create one that root owns."""
    return Volume(name, path, {"hostPath": {"path": node_path, "type": "Directory"}}, read_only)
