"""An arm in a cluster: the objects that it consists of, applied, waited for, and deleted."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.config.topology import Arm, Layout, Model
from bench.environments.containers.engine import PORT
from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.manifests.files import K8S
from bench.environments.kubernetes.manifests.overlay import overlay_path
from bench.environments.kubernetes.objects import (
    APPLIED,
    BALANCER,
    COLOCATED,
    CREATED_BY,
    DEFAULT,
    DERIVED,
    ENGINES,
    KINDS,
    OURS,
    PART_OF,
    Kind,
    Resource,
    deployment_name,
    namespace_of,
    object_name,
)
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.progress import Progress

BALANCER_PORT = 8080
_KUSTOMIZE_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class DeployedArm:
    """An arm and the models that it serves, all for the same hardware, and their layout."""

    arm: Arm
    models: tuple[Model, ...]
    layout: Layout = "dedicated"

    @property
    def namespace(self) -> str:
        """The namespace of its engines and of its balancer."""
        return namespace_of(self.arm)

    @property
    def balanced(self) -> bool:
        """Whether a balancer chooses the replica, and not the Service."""
        return self.arm.kubernetes == "balancer"

    @property
    def deployments(self) -> tuple[str, ...]:
        """The names of the Deployments that have to be ready, the balancer last."""
        engines = tuple(deployment_name(model.name) for model in self.models)
        if self.layout == "colocated":
            engines = (COLOCATED,)
        return (*engines, BALANCER) if self.balanced else engines

    def objects(self) -> list[Resource]:
        """What is applied for it: the arm's overlay, without engines of other models.

        Raises UserError where k8s/ does not follow the topology.
        """
        folder = K8S / overlay_path(self.arm, self.models[0].hardware, self.layout)
        built = build(folder) if folder.is_dir() else []
        objects = of_models(built, {model.name for model in self.models})
        if absent := set(self.deployments) - {one.name for one in objects}:
            raise UserError(
                f"{folder} has no {', '.join(sorted(absent))}; run python -m bench manifests"
            )
        if self.layout == "colocated":
            self._require_all(next(one for one in objects if one.name == COLOCATED))
        return objects

    def _require_all(self, deployment: Resource) -> None:
        """Raise UserError unless the engines of a colocated pod are those of the models."""
        there = Resource(deployment["spec"]["template"]).engines
        if there.keys() != {model.name for model in self.models}:
            raise UserError(
                f"on Kubernetes layout colocated has all its models in a pod: {', '.join(there)}; "
                "leave --models out, or change the topology file and run python -m bench manifests"
            )

    def routes(self, models: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """By model: the base URL through the arm, as pods reach it."""
        if self.balanced:
            return dict.fromkeys(models, (self._url(BALANCER, BALANCER_PORT),))
        return {model: (self._url(object_name(model), PORT),) for model in models}

    def _url(self, service: str, port: int) -> str:
        return f"http://{service}.{self.namespace}.svc.cluster.local:{port}"


def deploy(api: Api, arm: DeployedArm, progress: Progress, timeout_s: float) -> None:
    """Apply an arm and return when all of it is ready. Safe to repeat.

    Deletes engines that the arm does not have now, of other models or in another layout. Raises
    UserError with the reason if an object is refused or does not become ready; what has been
    applied stays.
    """
    objects = arm.objects()
    apply_all(api, objects, progress, f"applying arm {arm.arm.name} to namespace {arm.namespace}")
    _delete_other_engines(api, arm, objects)
    Wait(api, arm.namespace, progress, timeout_s).until_ready(arm.deployments)


def apply_all(api: Api, objects: Sequence[Resource], progress: Progress, text: str) -> None:
    """Apply all objects; `text` says for the progress what is done."""
    with progress.step(text) as step:
        for one in in_apply_order(objects):
            step.update(f"{one['kind']} {one.name}")
            apply_one(api, one)


def in_apply_order(objects: Sequence[Resource]) -> list[Resource]:
    """`objects`, each after those that it refers to; unknown kinds last, for the API to refuse."""
    order = {kind: position for position, kind in enumerate(APPLIED)}
    return sorted(objects, key=lambda one: order.get(one["kind"], len(order)))


def apply_one(api: Api, one: Resource) -> None:
    """Apply an object. A namespace that exists is left as it is, a new one gets `CREATED_BY`."""
    if one["kind"] != "Namespace":
        api.apply(one)
    elif api.get("Namespace", None, one.name) is None:
        meta = one["metadata"]
        annotations = {**(meta.get("annotations") or {}), CREATED_BY: PART_OF}
        api.apply({**one, "metadata": {**meta, "annotations": annotations}})


def build(folder: Path) -> list[Resource]:
    """Every object of a kustomization. Raises UserError if kubectl is missing or fails."""
    command = ["kubectl", "kustomize", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_KUSTOMIZE_TIMEOUT_S
        )
    except FileNotFoundError:
        raise UserError(
            "kubectl is not installed, which builds the manifests: "
            "see https://kubernetes.io/docs/tasks/tools/"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{' '.join(command)} took more than {_KUSTOMIZE_TIMEOUT_S:.0f} s"
        ) from None
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {' '.join(done.stderr.split())}")
    return [Resource(one) for one in yaml.safe_load_all(done.stdout) if one]


def of_models(objects: Collection[Resource], models: Collection[str]) -> list[Resource]:
    """The objects without those that belong to a model that is not in `models`."""
    return [one for one in objects if one.model is None or one.model in models]


def _delete_other_engines(api: Api, arm: DeployedArm, applied: Collection[Resource]) -> None:
    """Delete what an earlier deployment has left of engines that the arm does not have now."""
    kept = {(one["kind"], one.name) for one in applied}
    for kind in ("ConfigMap", "Service", "PodDisruptionBudget", "Deployment"):
        for one in api.find(kind, arm.namespace, ENGINES):
            if (kind, one.name) not in kept:
                api.delete(kind, arm.namespace, one.name)


def teardown(api: Api, namespace: str, progress: Progress, timeout_s: float) -> bool:
    """Delete the suite's objects from a namespace; False if there were none.

    Deletes the namespace too, unless somebody else created it or has put something into it. Works
    for whatever an earlier run has left. Raises UserError if something is left after `timeout_s`.
    """
    space = api.get("Namespace", None, namespace)
    found = _applied(api, namespace, exists=space is not None)
    if not found and not (space and space.is_created_by_us):
        return False
    with progress.step(f"taking down namespace {namespace}") as step:
        for kind, name in found:
            step.update(f"{kind} {name}")
            api.delete(kind, namespace, name)
    if space is None:
        return True
    wait = Wait(api, namespace, progress, timeout_s)
    wait.until_pods_gone()
    if not space.is_created_by_us:
        progress.note(f"namespace {namespace} stays: the suite has not created it")
    elif others := _other_objects(api, namespace):
        progress.note(f"namespace {namespace} stays: it holds other objects: {others[0]}")
    else:
        api.delete("Namespace", None, namespace)
        wait.until_namespace_gone(space)
    return True


def _applied(api: Api, namespace: str, *, exists: bool) -> list[tuple[str, str]]:
    """Kind and name of the suite's objects, in the order in which they are to be deleted.

    The last is the PriorityClass of the namespace's arm, which is in no namespace itself.
    """
    inside = [
        (kind, one.name)
        for kind in reversed(APPLIED)
        if exists and KINDS[kind].namespaced
        for one in api.find(kind, namespace, OURS)
    ]
    classes = {one.name for one in api.find("PriorityClass", None, OURS)}
    own = f"llm-bench-{namespace}"
    return [*inside, ("PriorityClass", own)] if own in classes else inside


def _other_objects(api: Api, namespace: str) -> list[str]:
    """Objects in a namespace that are not the suite's and that the cluster does not delete itself.

    Also names kinds that this user may not list: there may be objects of them.
    """
    found = []
    for kind in api.namespaced_kinds():
        try:
            objects = api.find(kind, namespace)
        except UserError as error:
            found.append(f"{kind.plural}, perhaps ({error})")
            continue
        found += [f"{kind.name} {one.name}" for one in objects if not _may_go(kind, one)]
    return found


def _may_go(kind: Kind, one: Resource) -> bool:
    """Whether it is the suite's, or the cluster deletes it with its owner or the namespace."""
    return (
        OURS.items() <= one.labels.items()
        or (kind.group, kind.plural) in DERIVED
        or (kind.group, kind.plural, one.name) in DEFAULT
        or bool(one["metadata"].get("ownerReferences"))
    )
