"""What `python -m bench deploy|status|teardown` do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.config.topology import Arm, Model
from bench.console import as_text
from bench.environments.kubernetes.arm import DeployedArm
from bench.environments.kubernetes.cluster import Access, Api, connect
from bench.environments.kubernetes.deploying import deploy
from bench.environments.kubernetes.manifests import namespace
from bench.environments.kubernetes.manifests.names import LOAD_NAMESPACE
from bench.environments.kubernetes.ownership import OURS
from bench.environments.kubernetes.status import replica_statuses, status_table
from bench.environments.kubernetes.teardown import teardown
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
