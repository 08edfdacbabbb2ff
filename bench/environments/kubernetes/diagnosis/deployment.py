"""Why a Deployment gets no pods."""

from __future__ import annotations

from bench.environments.kubernetes.diagnosis.reason import SOON, Reason, one_line
from bench.environments.kubernetes.objects import Object


def diagnose_deployment(deployment: Object) -> Reason | None:
    """Why pods of it are refused before they are there: a quota, or an admission."""
    conditions = (deployment.get("status") or {}).get("conditions") or []
    for condition in conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            name = (deployment.get("metadata") or {}).get("name")
            return _refused(str(name), str(condition.get("message") or condition.get("reason")))
    return None


def _refused(name: str, message: str) -> Reason:
    told = one_line(message)
    if "violates PodSecurity" in message:
        return Reason(f"{name}: its pods are refused by the namespace's Pod Security: {told}")
    if "exceeded quota" in message or "failed quota" in message:
        # Where a pod has just been deleted, it counts for a moment.
        return Reason(f"{name}: its pods are refused by a quota: {told}", SOON)
    return Reason(f"{name}: its pods are refused: {told}", SOON)
