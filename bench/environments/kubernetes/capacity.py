"""Whether the nodes of a cluster have room for more pods. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from kubernetes.utils.quantity import parse_quantity

from bench.environments.kubernetes.objects import Object

Resources = dict[str, float]
"""Amount of each resource in `COUNTED`: GPUs, cores, bytes."""

COUNTED = ("nvidia.com/gpu", "cpu", "memory")
_ENDED = ("Succeeded", "Failed")
# By kind: the field that says how many pods there are at once.
_COUNT_FIELDS = {"Deployment": "replicas", "Job": "parallelism"}


def amount(quantity: object) -> float:
    """A quantity as Kubernetes writes it (`250m`, `8Gi`, `2`) as a number."""
    return float(parse_quantity(quantity))


def requested(spec: Object) -> Resources:
    """What a pod with this spec reserves. A limit without a request counts as a request."""
    total = dict.fromkeys(COUNTED, 0.0)
    for container in spec.get("containers") or ():
        resources = container.get("resources") or {}
        requests = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for name in COUNTED:
            total[name] += amount(requests.get(name, "0"))
    return total


def wanted(objects: Iterable[Object]) -> list[Resources]:
    """What the Deployments and Jobs among `objects` reserve, one entry for each of their pods."""
    return [
        requested(one["spec"]["template"]["spec"])
        for one in objects
        if one["kind"] in _COUNT_FIELDS
        for _ in range(int(one["spec"].get(_COUNT_FIELDS[one["kind"]], 1)))
    ]


def free(
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
        for name, used in requested(pod["spec"]).items():
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
