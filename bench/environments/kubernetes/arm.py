"""An arm in a cluster: where it is and what it consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.config.topology import Arm, Hardware, Model
from bench.environments.kubernetes.kustomize import build, of_models
from bench.environments.kubernetes.manifests import (
    K8S,
    deployment_name,
    namespace,
    object_name,
    overlay_path,
)
from bench.environments.kubernetes.manifests.names import PORT
from bench.environments.kubernetes.objects import Object

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
