"""Pods as the API tells them: which are meant, which serve, what they have been through."""

from __future__ import annotations

from bench.environments.kubernetes.manifests.names import MODEL_LABEL, PORT
from bench.environments.kubernetes.objects import Object
from bench.records import Replica


def name(one: Object) -> str:
    return str(one["metadata"]["name"])


def leaving(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return not leaving(pod) and any(
        one.get("type") == "Ready" and one.get("status") == "True" for one in conditions
    )


def restarts(pod: Object) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(int(one.get("restartCount") or 0) for one in statuses)


def doing(pod: Object) -> str:
    """What a pod that is not ready is at, in one word."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        if waiting := (container.get("state") or {}).get("waiting"):
            return str(waiting.get("reason") or "waiting")
        if "running" in (container.get("state") or {}):
            return "starting"
    return str(status.get("phase") or "unknown").lower()


def place(pod: Object) -> int:
    """Which one of an Indexed Job a pod is, from 0."""
    return int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])


def replica(pod: Object) -> Replica:
    """An engine's pod as a replica of its model."""
    model, address = pod["metadata"]["labels"][MODEL_LABEL], pod["status"]["podIP"]
    host = f"[{address}]" if ":" in address else address
    return Replica(model, name(pod), f"http://{host}:{PORT}")
