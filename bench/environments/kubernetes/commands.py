"""The commands `python -m bench deploy`, `status` and `teardown`."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from bench.config.topology import Arm
from bench.console import as_text
from bench.environments.kubernetes.access import Access, connect
from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.deploying import DeployedArm, deploy, teardown
from bench.environments.kubernetes.holding import refuse_while_held
from bench.environments.kubernetes.objects import LOAD_NAMESPACE, OURS, namespace_of
from bench.environments.kubernetes.waiting import find_problems, late_pods
from bench.errors import UserError
from bench.progress import Progress

NARROWEST = 80


def deploy_arm(
    access: Access, arm: DeployedArm, progress: Progress, timeout_s: float, *, keep: bool
) -> None:
    """Deploy an arm. If it does not become ready, it is taken down again unless `keep`.

    Where the arm's namespace already has replicas, all of it stays: somebody may be using them.
    """
    api = connect(access)
    progress.note(f"cluster {api.context} ({api.server}), Kubernetes {api.version()}")
    refuse_while_held(api, progress)
    if not keep and api.find("Deployment", arm.namespace, OURS):
        progress.note(f"namespace {arm.namespace} has replicas: they stay, even if this fails")
        keep = True
    try:
        deploy(api, arm, progress, timeout_s)
    except (UserError, KeyboardInterrupt):
        if not keep:
            try:
                teardown(api, arm.namespace, progress, timeout_s)
            except UserError as error:  # the failure before it matters more
                progress.note(f"namespace {arm.namespace} is not taken down: {error}")
        raise


def take_down(access: Access, arm: Arm, progress: Progress, timeout_s: float) -> bool:
    """Delete an arm and the pods that send load, whoever has deployed them; False if none exist."""
    api = connect(access)
    refuse_while_held(api, progress)
    arms = teardown(api, namespace_of(arm), progress, timeout_s)
    return teardown(api, LOAD_NAMESPACE, progress, timeout_s) or arms


def status_of(access: Access, arm: Arm, *, width: int, colour: bool) -> str:
    """All pods of the suite in the arm's namespace as a table, and Deployments without pods."""
    namespace = namespace_of(arm)
    rows = sorted(_status_rows(connect(access), namespace))
    if not rows:
        return f"nothing of arm {arm.name} is in namespace {namespace}"
    table = Table(box=None, pad_edge=False)
    for title in ("replica", "node", "ready", "restarts", "reason"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return as_text([table], width=width, narrowest=NARROWEST, colour=colour)


def _status_rows(api: Api, namespace: str) -> Iterator[tuple[str, ...]]:
    deployments = {one.name: one for one in api.find("Deployment", namespace, OURS)}
    problems = find_problems(api, namespace, deployments, late_pods(api, namespace))
    reasons = {one.name: one.reason.text for one in problems}
    for pod in api.find("Pod", namespace, OURS):
        name, node = pod.name, str(pod["spec"].get("nodeName") or "none")
        ready = "yes" if pod.is_ready else "no"
        yield name, node, ready, str(pod.restart_count), reasons.get(name) or pod.state
    for name in deployments:
        if name in reasons:
            yield name, "none", "no", "0", reasons[name]
