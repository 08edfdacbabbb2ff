"""Whether a cluster can hold some pods besides those that it has. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from bench.environments.kubernetes.objects import Object

Resources = dict[str, float]
"""By name: GPUs, cores, bytes."""

COUNTED = ("nvidia.com/gpu", "cpu", "memory")
_UNITS = {
    "": 1.0,
    "m": 1e-3,
    **{unit: 1000.0 ** (place + 1) for place, unit in enumerate("kMGTPE")},
    **{f"{unit}i": 1024.0 ** (place + 1) for place, unit in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([0-9.]+(?:e[0-9]+)?)([a-zA-Z]*)")
_OVER = ("Succeeded", "Failed")
# By kind: the field that says how many pods there are at once.
_COUNTS = {"Deployment": "replicas", "Job": "parallelism"}


def amount(quantity: object) -> float:
    """A quantity as Kubernetes writes it: `250m`, `8Gi`, `2`."""
    found = _QUANTITY.fullmatch(str(quantity))
    if not found or found[2] not in _UNITS:
        raise ValueError(f"{quantity!r} is no quantity")
    return float(found[1]) * _UNITS[found[2]]


def requested(spec: Object) -> Resources:
    """What a pod of this spec reserves; a limit without a request is one."""
    total = dict.fromkeys(COUNTED, 0.0)
    for container in spec.get("containers") or ():
        resources = container.get("resources") or {}
        wanted = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for name in COUNTED:
            total[name] += amount(wanted.get(name, "0"))
    return total


def free(nodes: Iterable[Object], pods: Iterable[Object], ours: Collection[str]) -> list[Resources]:
    """What each node that takes pods has left, not counting pods in the namespaces `ours`."""
    left = {
        str(node["metadata"]["name"]): {
            name: amount(node["status"]["allocatable"].get(name, "0")) for name in COUNTED
        }
        for node in nodes
        if not node["spec"].get("unschedulable")
    }
    for pod in pods:
        node, phase = pod["spec"].get("nodeName"), (pod.get("status") or {}).get("phase")
        if node not in left or phase in _OVER or pod["metadata"].get("namespace") in ours:
            continue
        for name, used in requested(pod["spec"]).items():
            left[node][name] -= used
    return list(left.values())


def wanted(objects: Iterable[Object]) -> list[Resources]:
    """What the pods of all Deployments and Jobs among `objects` reserve, an entry for each pod."""
    return [
        requested(one["spec"]["template"]["spec"])
        for one in objects
        if one["kind"] in _COUNTS
        for _ in range(int(one["spec"].get(_COUNTS[one["kind"]], 1)))
    ]


def fits(nodes: Sequence[Mapping[str, float]], pods: Sequence[Mapping[str, float]]) -> bool:
    """Whether all `pods` find room: the largest first, each on the first node that has it."""
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
