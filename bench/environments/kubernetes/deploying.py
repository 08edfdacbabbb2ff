"""Bringing an arm up in a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.environments.kubernetes.cluster import Api
from bench.environments.kubernetes.cluster.api import APPLIED
from bench.environments.kubernetes.manifests import (
    K8S,
    deployment_name,
    namespace,
    object_name,
    overlay_path,
)
from bench.environments.kubernetes.manifests.names import MODEL_LABEL, PORT
from bench.environments.kubernetes.objects import OURS, Object, marked
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.progress import Progress
from bench.topology import Arm, Hardware, Model


def deploy(api: Api, arm: DeployedArm, progress: Progress, timeout_s: float) -> None:
    """Apply an arm and return when all of it is ready. Safe to repeat.

    Engines of models that are not asked for go. Raises UserError with the reason when
    something is refused or does not come up; what has been applied stays.
    """
    objects = arm.objects()
    with progress.step(f"applying arm {arm.arm.name} to namespace {arm.namespace}") as step:
        for one in in_order(objects):
            step.update(f"{one['kind']} {one['metadata']['name']}")
            apply_one(api, one)
        remove_other_models(api, arm, objects)
    Wait(api, arm.namespace, progress).until_ready(arm.deployments, timeout_s)


def in_order(objects: Sequence[Object]) -> list[Object]:
    """What others refer to first. Kinds that are not known stay, for the API to refuse."""
    places = {kind: place for place, kind in enumerate(APPLIED)}
    return sorted(objects, key=lambda one: places.get(one["kind"], len(places)))


def apply_one(api: Api, one: Object) -> None:
    """Apply an object. A namespace that is there and not the suite's is left as it is."""
    if one["kind"] != "Namespace":
        api.apply(one)
        return
    if api.get("Namespace", None, one["metadata"]["name"]) is None:
        api.apply(marked(one))


def remove_other_models(api: Api, arm: DeployedArm, wanted: Collection[Object]) -> None:
    """Delete what an earlier deployment left of models that are not asked for now."""
    models = {model.name for model in arm.models}
    for kind in dict.fromkeys(one["kind"] for one in wanted if model_of(one)):
        for one in api.find(kind, arm.namespace, OURS):
            if (model := model_of(one)) and model not in models:
                api.delete(kind, arm.namespace, one["metadata"]["name"])


BALANCER = "balancer"
BALANCER_PORT = 8080


@dataclass(frozen=True, slots=True)
class DeployedArm:
    """An arm with the models that it serves. `domain` is the cluster's."""

    arm: Arm
    models: tuple[Model, ...]
    hardware: Hardware
    domain: str = "cluster.local"

    @property
    def namespace(self) -> str:
        return namespace(self.arm)

    @property
    def balanced(self) -> bool:
        """Whether a balancer chooses the replica, and not the Service."""
        return self.arm.kubernetes == "balancer"

    @property
    def deployments(self) -> tuple[str, ...]:
        """The Deployments that have to be ready, the balancer last."""
        engines = tuple(deployment_name(model.name) for model in self.models)
        return (*engines, BALANCER) if self.balanced else engines

    def objects(self) -> list[Object]:
        """What is applied for it."""
        names = {model.name for model in self.models}
        return of_models(build(K8S / overlay_path(self.arm, self.hardware)), names)

    def routes(self, models: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """For each model the address that pods reach it at through the arm."""
        if self.balanced:
            return dict.fromkeys(models, (self._url(BALANCER, BALANCER_PORT),))
        return {model: (self._url(object_name(model), PORT),) for model in models}

    def _url(self, service: str, port: int) -> str:
        return f"http://{service}.{self.namespace}.svc.{self.domain}:{port}"


_TIMEOUT_S = 120.0


def build(folder: Path) -> list[Object]:
    """Every object of a kustomization. Raises UserError without kubectl, or if it refuses."""
    command = ["kubectl", "kustomize", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except FileNotFoundError:
        raise UserError(
            "kubectl is not installed, which builds the manifests: "
            "see https://kubernetes.io/docs/tasks/tools/"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{' '.join(command)} took more than {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        told = " ".join(done.stderr.split())
        raise UserError(f"{' '.join(command)} failed: {told}")
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def model_of(one: Object) -> str | None:
    """The model that an object belongs to, None for one of all."""
    labels: dict[str, str] = one["metadata"].get("labels") or {}
    return labels.get(MODEL_LABEL)


def of_models(objects: Collection[Object], models: Collection[str]) -> list[Object]:
    """What is of all models or of one of `models`."""
    return [one for one in objects if model_of(one) is None or model_of(one) in models]
