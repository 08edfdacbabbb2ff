"""The objects of a model's engines: engine.yaml, with what depends on the model and its hardware.

Engines on CPUs get the arguments and variables that they have in environment `local`; engines on
GPUs load weights from the hub.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from bench.config.topology import GpuEngineEntry, Model, Topology
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
HARDWARE = Path(__file__).with_name("hardware.yaml")
# The version of vLLM in all images of engines.
VLLM_VERSION = "0.30.0"
CPU_IMAGE = "llm-bench-engine-cpu"
GPU_IMAGE = "vllm/vllm-openai"
# Where a folder of the node with a model is mounted.
MOUNTED_MODEL = "/model"


def engine_objects(model: Model, topology: Topology, version: str) -> tuple[Object, ...]:
    """Deployment, Service and PodDisruptionBudget of a model's engines, without a namespace.

    `version` is that of the suite's own images.
    """
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
    _fill_in(template["spec"], model, topology, version)
    return deployment, service, budget


def environment(variables: Mapping[str, str | Object]) -> list[Object]:
    """The `env` of a container. A variable is a text, or an object that says where it is from."""
    return [
        {"name": name, "value" if isinstance(value, str) else "valueFrom": value}
        for name, value in variables.items()
    ]


def _fill_in(pod: Object, model: Model, topology: Topology, version: str) -> None:
    """Fill in what the pod and its container have on the model's hardware, and for the model."""
    (container,) = pod["containers"]
    own = yaml.safe_load(HARDWARE.read_text(encoding="utf-8"))[model.hardware]
    variables, image = own["variables"], f"{GPU_IMAGE}:v{VLLM_VERSION}"
    if model.hardware == "gpu":
        for amounts in own["resources"].values():
            amounts["nvidia.com/gpu"] = str(model.gpus)
    else:
        variables, image = {**ENGINE_VARIABLES, **variables}, f"{CPU_IMAGE}:{version}"
    if model.path is not None:
        source = {"path": str(model.path), "type": "Directory"}
        own["volumes"].append({"name": "model", "hostPath": source})
        mount = {"name": "model", "mountPath": MOUNTED_MODEL, "readOnly": True}
        own["volumeMounts"].append(mount)
    pod["securityContext"].update(own["securityContext"])
    pod["volumes"] = own["volumes"]
    container["resources"].update(own["resources"])
    container.update(
        image=image,
        args=[*arguments(model, topology), *container["args"]],
        env=environment(variables),
        volumeMounts=own["volumeMounts"],
    )
    for part, key in ((pod, "tolerations"), (container, "command")):
        part[key] = own.get(key)
        if part[key] is None:
            del part[key]


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
