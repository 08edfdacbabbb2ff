"""Environment `k8s`: engines and balancers in a Kubernetes cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from bench.config.config import Config
from bench.config.topology import Arm, Model
from bench.environments.base import Environment
from bench.environments.cpu_engine.models import model_folder
from bench.environments.kubernetes.access import Access, connect
from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.deploying import DeployedArm, deploy, teardown
from bench.environments.kubernetes.load_pods import PodSite, start_load_pods
from bench.environments.kubernetes.nodes import cluster_facts, fits, free_resources, pod_requests
from bench.environments.kubernetes.objects import (
    BALANCER,
    ENGINE,
    LOAD_NAMESPACE,
    OURS,
    Resource,
    one_line,
)
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.progress import Progress
from bench.records import Replica

ENGINES = {**OURS, "app.kubernetes.io/component": ENGINE}
# How many balancers an arm has in its manifests, even if a scenario asks for fewer.
BALANCERS = 2
_TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]


def make_environment(config: Config, progress: Progress) -> KubernetesEnvironment:
    """The environment as the options want it; nothing is started yet."""
    options = config.options
    return KubernetesEnvironment(
        Access.chosen(options.kubeconfig, options.context, os.environ),
        tuple(config.arms.values()),
        config.cache,
        progress,
        load_pods=options.load_processes or 1,
        timeout_s=options.ready_timeout,
        keep=options.keep_env,
    )


class KubernetesEnvironment(Environment):
    """vLLM engines in pods, each arm in the namespace of its engines; see `Environment`.

    Arms with the same engines share them; between two such arms only the balancer is replaced.
    Where the cluster cannot hold the engines of all `arms` at once, one namespace is up at a time
    (`alternates`). Pods may take `timeout_s` to become ready, or to end. Load is sent from
    `load_pods` pods. With `keep`, what is up stays after `stop`.
    """

    name = "k8s"

    def __init__(
        self,
        access: Access,
        arms: Sequence[Arm],
        cache: Path,
        progress: Progress,
        *,
        timeout_s: float,
        load_pods: int = 1,
        keep: bool = False,
    ) -> None:
        self._access = access
        self._load_pods = load_pods
        self._timeout_s = timeout_s
        self._wanted = tuple(dict.fromkeys(arms))
        self._cache = cache
        self._progress = progress
        self._keep = keep
        self.alternates = False
        self._models: dict[str, Model] = {}
        self._arms: dict[str, DeployedArm] = {}
        # By namespace that is up: the name of the arm whose balancer it has, and how often each
        # engine's pod had been restarted when the engines became ready.
        self._up: dict[str, str] = {}
        self._restarts: dict[str, dict[str, int]] = {}
        self._facts: Mapping[str, Any] = {}
        self._cleanup = ExitStack()

    def site(self) -> PodSite:
        """Bring up the pods that load is sent from."""
        api = self._api
        self._cleanup.callback(self._release_load)
        return start_load_pods(api, self._load_pods, self._progress, self._timeout_s)

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Bring up the first arm, and all others if there is room for them."""
        started_s = time.monotonic()
        api = self._api
        self._models = {model.name: model for model in models}
        self._arms = {arm.name: DeployedArm(arm, tuple(models)) for arm in self._wanted}
        self.alternates = not self._all_fit()
        if self.alternates:
            self._progress.note("the cluster cannot hold all engines at once: arms take turns")
        self._cleanup.callback(self._release)
        first = self._wanted[0]
        for arm in (first,) if self.alternates else self._wanted[::-1]:
            self._bring_up(self._arms[arm.name])
        nodes, pods = api.find("Node"), api.find("Pod", None, OURS)
        self._facts = {
            **cluster_facts(api.version(), nodes, pods, models),
            "alternates": self.alternates,
            "start_s": round(time.monotonic() - started_s, 1),
        }
        return self.replicas(first)

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        """By model: the base URL of the arm's Service, with at least two balancers behind it."""
        deployed = self._arms[arm.name]
        self._bring_up(deployed)
        if deployed.balanced and balancers > BALANCERS:
            self._api.scale(deployed.namespace, BALANCER, balancers)
            self._wait(deployed.namespace).until_ready(deployed.deployments)
        return deployed.routes(models)

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        """The engines' pods that are ready in the arm's namespace."""
        pods = self._engines(self._arms[arm.name].namespace)
        ready = [pod.as_replica() for pod in pods if pod.is_ready]
        found = sorted(ready, key=lambda one: (one.model, one.name))
        return tuple(one for one in found if one.model in self._models)

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        """Raises UserError: nothing outside a pod can slow it."""
        raise UserError(
            f"on Kubernetes no replica can be slowed ({len(replicas)} to {share:.0%} of a core): "
            "run this scenario with --env local"
        )

    def tokenizer_folder(self, model: str) -> Path:
        """Folder on this machine with the model's tokenizer.json and chat template.

        Those of a model of the hub are downloaded, with HF_TOKEN of this machine; raises UserError
        if that fails.
        """
        hub = self._models[model].hub
        if hub is None:
            return model_folder(self._models[model], self._cache)
        try:
            return Path(snapshot_download(hub, allow_patterns=_TOKENIZER_FILES))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise UserError(
                f"cannot download the tokenizer of {hub}, which prompts are made with: "
                f"{one_line(error)}; set HF_TOKEN on this machine too"
            ) from None

    def dead_replicas(self) -> tuple[str, ...]:
        """Engines' pods that are gone or have been restarted since their arm became ready."""
        dead = []
        for namespace, before in self._restarts.items():
            now = self._restart_counts(namespace)
            for name, restarts in before.items():
                if name not in now:
                    dead.append(f"{name} in namespace {namespace} is gone")
                elif now[name] > restarts:
                    dead.append(
                        f"{name} in namespace {namespace} was restarted; see kubectl -n "
                        f"{namespace} logs {name} --previous"
                    )
        return tuple(dead)

    def processes(self) -> None:
        """None: engines do not run on this machine."""
        return

    def facts(self) -> Mapping[str, Any]:
        """Versions, images, nodes, weights, and whether arms took turns."""
        return self._facts

    def stop(self) -> None:
        self._cleanup.close()

    @cached_property
    def _api(self) -> Api:
        """The cluster, connected to when it is first needed."""
        api = connect(self._access)
        version = api.version()
        self._progress.note(f"cluster {api.context} ({api.server}), Kubernetes {version}")
        return api

    @property
    def _namespaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(arm.namespace for arm in self._arms.values()))

    def _all_fit(self) -> bool:
        """Whether the cluster has room for the engines and balancers of all namespaces."""
        if len(self._namespaces) == 1:
            return True
        by_namespace = {arm.namespace: arm.objects() for arm in self._arms.values()}
        pods = [need for objects in by_namespace.values() for need in pod_requests(objects)]
        return fits(
            free_resources(self._api.find("Node"), self._api.find("Pod"), set(by_namespace)), pods
        )

    def _bring_up(self, arm: DeployedArm) -> None:
        """Return when the arm is ready. Where arms take turns, other namespaces go down first."""
        up = self._up.get(arm.namespace)
        if up == arm.arm.name or (up is not None and not arm.balanced):
            return
        if self.alternates:
            for other in self._namespaces:
                if other != arm.namespace:
                    self._scale_to_zero(other)
        deploy(self._api, arm, self._progress, self._timeout_s)
        if up is None:
            self._restarts[arm.namespace] = self._restart_counts(arm.namespace)
        self._up[arm.namespace] = arm.arm.name

    def _scale_to_zero(self, namespace: str) -> None:
        """Return when none of the namespace's pods is left."""
        for one in self._api.find("Deployment", namespace, OURS):
            self._api.scale(namespace, one.name, 0)
        self._wait(namespace).until_pods_gone()
        self._up.pop(namespace, None)
        self._restarts.pop(namespace, None)

    def _engines(self, namespace: str) -> list[Resource]:
        return self._api.find("Pod", namespace, ENGINES)

    def _restart_counts(self, namespace: str) -> dict[str, int]:
        """How often each engine's pod has been restarted, by the pod's name."""
        pods = self._engines(namespace)
        return {pod.name: pod.restart_count for pod in pods if not pod.is_terminating}

    def _wait(self, namespace: str) -> Wait:
        return Wait(self._api, namespace, self._progress, self._timeout_s)

    def _release(self) -> None:
        if self._keep and self._up:
            self._progress.note(
                "left running: namespace "
                + ", ".join(self._up)
                + "; python -m bench teardown --env k8s ends that"
            )
            return
        for namespace in self._namespaces:
            teardown(self._api, namespace, self._progress, self._timeout_s)

    def _release_load(self) -> None:
        if self._keep:
            self._progress.note(f"left running: namespace {LOAD_NAMESPACE}")
        else:
            teardown(self._api, LOAD_NAMESPACE, self._progress, self._timeout_s)
