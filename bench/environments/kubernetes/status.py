"""What an arm's replicas are at, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.environments.kubernetes import pods as pod_facts
from bench.environments.kubernetes.cluster import Api
from bench.environments.kubernetes.objects import Object
from bench.environments.kubernetes.ownership import OURS
from bench.environments.kubernetes.waiting import Wait
from bench.progress import Progress


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One pod of an arm. `reason` is empty where nothing is wrong."""

    name: str
    node: str
    ready: bool
    restarts: int
    reason: str


def replica_statuses(api: Api, namespace: str, progress: Progress) -> list[ReplicaStatus]:
    """All pods of the suite in a namespace, and Deployments that get no pods."""
    deployments = {pod_facts.name(one): one for one in api.find("Deployment", namespace, OURS)}
    wait = Wait(api, namespace, progress)
    reasons = {one.name: one.reason.text for one in wait.troubles(deployments, wait.late_pods())}
    pods = [
        ReplicaStatus(
            pod_facts.name(pod),
            str(pod["spec"].get("nodeName") or "none"),
            pod_facts.is_ready(pod),
            pod_facts.restarts(pod),
            reasons.get(pod_facts.name(pod)) or _state(pod),
        )
        for pod in api.find("Pod", namespace, OURS)
    ]
    refused = [
        ReplicaStatus(name, "none", ready=False, restarts=0, reason=reasons[name])
        for name in deployments
        if name in reasons
    ]
    return sorted([*pods, *refused], key=lambda one: one.name)


def status_table(statuses: Sequence[ReplicaStatus]) -> Iterable[Table]:
    """One row for each replica."""
    table = Table(box=None, pad_edge=False)
    for title in ("replica", "node", "ready", "restarts", "reason"):
        table.add_column(title, overflow="fold")
    for one in statuses:
        ready = "yes" if one.ready else "no"
        table.add_row(one.name, one.node, ready, str(one.restarts), one.reason)
    yield table


def _state(pod: Object) -> str:
    if pod_facts.leaving(pod):
        return "ending"
    return "" if pod_facts.is_ready(pod) else pod_facts.doing(pod)
