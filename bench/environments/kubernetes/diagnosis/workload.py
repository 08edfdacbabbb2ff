"""Why a Deployment or a Job gets no pods."""

from __future__ import annotations

from collections.abc import Sequence

from bench.environments.kubernetes.diagnosis.reason import SOON, Reason, one_line
from bench.environments.kubernetes.objects import Object


def diagnose_workload(workload: Object, events: Sequence[Object]) -> Reason | None:
    """Why pods of it are refused before they are there, a quota or an admission, or are over.

    `events` are those of objects of its name, the oldest first.
    """
    meta = workload["metadata"]
    for condition in (workload.get("status") or {}).get("conditions") or ():
        if condition.get("status") != "True":
            continue
        told = str(condition.get("message") or condition.get("reason"))
        if condition.get("type") == "ReplicaFailure":
            return _refused(str(meta["name"]), told)
        if condition.get("type") == "Failed":
            return Reason(f"{meta['name']}: the Job has failed: {one_line(told)}")
    # A Job has no condition for that. Events of one of the same name may be older.
    for event in reversed(events):
        if event.get("reason") == "FailedCreate" and _is_of(event, meta.get("uid")):
            return _refused(str(meta["name"]), str(event.get("message")))
    return None


def _is_of(event: Object, uid: str | None) -> bool:
    return bool((event.get("involvedObject") or {}).get("uid") == uid)


def _refused(name: str, message: str) -> Reason:
    told = one_line(message)
    if "violates PodSecurity" in message:
        return Reason(f"{name}: its pods are refused by the namespace's Pod Security: {told}")
    if "exceeded quota" in message or "failed quota" in message:
        # Where a pod has just been deleted, it counts for a moment.
        return Reason(f"{name}: its pods are refused by a quota: {told}", SOON)
    return Reason(f"{name}: its pods are refused: {told}", SOON)
