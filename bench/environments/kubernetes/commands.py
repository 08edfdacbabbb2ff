"""What `python -m bench deploy|status|teardown` do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.table import Table

from bench.console import as_text
from bench.environments.kubernetes import pods as pod_facts
from bench.environments.kubernetes.cluster import Access, Api, connect
from bench.environments.kubernetes.deploying import DeployedArm, deploy
from bench.environments.kubernetes.manifests import namespace
from bench.environments.kubernetes.manifests.names import LOAD_NAMESPACE
from bench.environments.kubernetes.objects import OURS, Object
from bench.environments.kubernetes.teardown import teardown
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.progress import Progress

NARROWEST = 80


@dataclass(frozen=True, slots=True)
class Wanted:
    """An arm, and the models that it is to serve, all for the same hardware."""

    arm: Arm
    models: tuple[Model, ...]


def deploy_arm(
    access: Access, wanted: Wanted, progress: Progress, timeout_s: float, *, keep: bool
) -> None:
    """Bring an arm up. What does not come up is taken down again unless `keep`.

    Where an arm was up in its namespace before, what is there stays: it may serve somebody.
    """
    api = connect(access)
    progress.note(f"cluster {api.context} ({api.server}), Kubernetes {api.version()}")
    arm = DeployedArm(wanted.arm, wanted.models, wanted.models[0].hardware)
    if not keep and api.find("Deployment", arm.namespace, OURS):
        progress.note(f"namespace {arm.namespace} has replicas: they stay, whatever comes of this")
        keep = True
    with taken_down_on_failure(api, arm.namespace, progress, timeout_s, keep=keep):
        deploy(api, arm, progress, timeout_s)


@contextmanager
def taken_down_on_failure(
    api: Api, namespace: str, progress: Progress, timeout_s: float, *, keep: bool
) -> Iterator[None]:
    """Take the namespace down when the body fails or is interrupted."""
    try:
        yield
    except (UserError, KeyboardInterrupt) as error:
        if keep:
            raise
        try:
            teardown(api, namespace, progress, timeout_s)
        except UserError as second:
            # Why it did not come up says more than why it does not go.
            progress.note(f"namespace {namespace} is not taken down: {second}")
        raise error from None


def take_down(access: Access, arm: Arm, progress: Progress, timeout_s: float) -> bool:
    """Take an arm down and the load's pods, whoever has deployed them; False if none is there."""
    api = connect(access)
    arms = teardown(api, namespace(arm), progress, timeout_s)
    return teardown(api, LOAD_NAMESPACE, progress, timeout_s) or arms


def status_of(access: Access, arm: Arm, progress: Progress, *, width: int, colour: bool) -> str:
    """The replicas of an arm, and all that shares its namespace, as a table."""
    statuses = replica_statuses(connect(access), namespace(arm), progress)
    if not statuses:
        return f"nothing of arm {arm.name} is in namespace {namespace(arm)}"
    return as_text(status_table(statuses), width=width, narrowest=NARROWEST, colour=colour)


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
