"""Kubernetes objects as JSON values: which are the suite's own, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.environments.kubernetes.manifests.names import MODEL_LABEL, PART_OF, PORT
from bench.records import Replica

Object = dict[str, Any]
"""An object of the API, or a part of one, as JSON values."""

# The labels of every object that the suite applies.
OURS = {"app.kubernetes.io/part-of": PART_OF, "app.kubernetes.io/managed-by": PART_OF}
# The annotation of a namespace that the suite has created. Only such a namespace is ever deleted.
CREATED_BY = "llm-bench/made-by"


def name_of(one: Object) -> str:
    """The object's name."""
    return str(one["metadata"]["name"])


def model_of(one: Object) -> str | None:
    """The model that an object belongs to; None for one that serves all models."""
    labels: dict[str, str] = one["metadata"].get("labels") or {}
    return labels.get(MODEL_LABEL)


def is_ours(one: Object) -> bool:
    """Whether the suite has applied the object."""
    return OURS.items() <= (one["metadata"].get("labels") or {}).items()


def mark_created(namespace: Object) -> Object:
    """A copy of the namespace with the annotation that the suite has created it."""
    meta = namespace["metadata"]
    annotations = {**(meta.get("annotations") or {}), CREATED_BY: PART_OF}
    return {**namespace, "metadata": {**meta, "annotations": annotations}}


def is_created_by_us(namespace: Object) -> bool:
    """Whether the namespace has that annotation."""
    annotations = namespace["metadata"].get("annotations") or {}
    return bool(annotations.get(CREATED_BY) == PART_OF)


def conditions(one: Object) -> Mapping[str, Object]:
    """The conditions in the object's status, by their type."""
    found = (one.get("status") or {}).get("conditions") or ()
    return {str(condition.get("type")): condition for condition in found}


def true_conditions(one: Object) -> Mapping[str, str]:
    """The message of each condition that is true, by its type; the reason if it has no message."""
    return {
        kind: str(condition.get("message") or condition.get("reason") or "")
        for kind, condition in conditions(one).items()
        if condition.get("status") == "True"
    }


def container_statuses(pod: Object) -> Sequence[Object]:
    """The status of each of the pod's containers, without init containers."""
    found: Sequence[Object] = (pod.get("status") or {}).get("containerStatuses") or ()
    return found


def is_terminating(pod: Object) -> bool:
    """Whether the pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def is_ready(pod: Object) -> bool:
    """Whether the pod takes requests."""
    return not is_terminating(pod) and "Ready" in true_conditions(pod)


def restart_count(pod: Object) -> int:
    """How often the pod's containers have been restarted."""
    return sum(int(one.get("restartCount") or 0) for one in container_statuses(pod))


def state_of(pod: Object) -> str:
    """What a pod is waiting for or doing, in one word; empty if it is ready."""
    if is_terminating(pod):
        return "ending"
    if is_ready(pod):
        return ""
    for container in container_statuses(pod):
        state = container.get("state") or {}
        if waiting := state.get("waiting"):
            return str(waiting.get("reason") or "waiting")
        if "running" in state:
            return "starting"
    return str((pod.get("status") or {}).get("phase") or "unknown").lower()


def completion_index(pod: Object) -> int:
    """The index of a pod within its Indexed Job, from 0."""
    return int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])


def as_replica(pod: Object) -> Replica:
    """An engine's pod as a replica of its model."""
    address = pod["status"]["podIP"]
    host = f"[{address}]" if ":" in address else address
    return Replica(pod["metadata"]["labels"][MODEL_LABEL], name_of(pod), f"http://{host}:{PORT}")


def one_line(text: object, limit: int = 300) -> str:
    """What the cluster or a program wrote, as one line of at most `limit` characters."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
