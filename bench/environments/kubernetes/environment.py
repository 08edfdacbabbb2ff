"""Environment `k8s`: engines and balancers in a Kubernetes cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from bench.environments.cpu_engine.models import model_folder
from bench.environments.kubernetes import pods as pod_facts
from bench.environments.kubernetes.capacity import fits, free, wanted
from bench.environments.kubernetes.cluster import Access, Api, connect
from bench.environments.kubernetes.deploying import BALANCER, DeployedArm, deploy
from bench.environments.kubernetes.facts import cluster_facts
from bench.environments.kubernetes.load_pods import PodSite, bring_up
from bench.environments.kubernetes.manifests.names import ENGINE, LOAD_NAMESPACE
from bench.environments.kubernetes.objects import OURS, Object
from bench.environments.kubernetes.teardown import teardown
from bench.environments.kubernetes.waiting import Wait
from bench.errors import UserError
from bench.progress import Progress
from bench.records import Replica

ENGINES = {**OURS, "app.kubernetes.io/component": ENGINE}
# Balancers that an arm has behind its address, however few a scenario asks for.
BALANCERS = 2


class KubernetesEnvironment:
    """vLLM engines in pods, each arm in the namespace of its engines.

    Arms whose engines are alike share them; between two such arms only the balancer is
    exchanged. Where the cluster cannot hold the engines of all `arms` at once, one namespace
    is up at a time: `alternates`. Pods may take `timeout_s` to become ready, or to end. Load is
    sent from `places` pods. With `keep` what is up stays
    after `stop`.
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
        places: int = 1,
        keep: bool = False,
    ) -> None:
        self._access = access
        self._places = places
        self._timeout_s = timeout_s
        self._wanted = tuple(dict.fromkeys(arms))
        self._cache = cache
        self._progress = progress
        self._keep = keep
        self.alternates = False
        self._models: dict[str, Model] = {}
        self._arms: dict[str, DeployedArm] = {}
        # By namespace that is up: the arm whose balancer it has, and how often each engine's
        # pod had been restarted when it came up.
        self._up: dict[str, str] = {}
        self._restarts: dict[str, dict[str, int]] = {}
        self._facts: Mapping[str, Any] = {}
        self._cleanup = ExitStack()
        self._connected: Api | None = None

    def site(self) -> PodSite:
        """Bring up the pods that load is sent from."""
        api = self._api
        self._cleanup.callback(self._release_load)
        return PodSite(api, bring_up(api, self._places, self._progress, self._timeout_s))

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Bring up the first arm, and all others if there is room for them."""
        started_s = time.monotonic()
        api = self._api
        hardware = models[0].hardware
        self._models = {model.name: model for model in models}
        self._arms = {arm.name: DeployedArm(arm, tuple(models), hardware) for arm in self._wanted}
        self.alternates = not self._all_fit(api)
        if self.alternates:
            self._progress.note("the cluster cannot hold all engines at once: arms come by turns")
        self._cleanup.callback(self._release)
        first = self._wanted[0]
        for arm in (first,) if self.alternates else self._wanted[::-1]:
            self._bring_up(self._arms[arm.name])
        nodes, pods = api.find("Node"), api.find("Pod", None, OURS)
        self._facts = {
            **cluster_facts(api.version(), nodes, pods, models, hardware),
            "alternates": self.alternates,
            "start_s": round(time.monotonic() - started_s, 1),
        }
        return self.replicas(first)

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        """The arm's Service for each model, with at least two balancers behind it."""
        deployed = self._arms[arm.name]
        self._bring_up(deployed)
        if deployed.balanced and balancers > BALANCERS:
            self._api.scale(deployed.namespace, BALANCER, balancers)
            self._wait(deployed.namespace).until_ready(deployed.deployments, self._timeout_s)
        return deployed.routes(models)

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        """The engines' pods that are ready in the arm's namespace."""
        ready = filter(pod_facts.is_ready, self._engines(self._arms[arm.name].namespace))
        found = sorted(map(pod_facts.replica, ready), key=lambda one: (one.model, one.name))
        return tuple(one for one in found if one.model in self._models)

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        """No pod can be slowed from outside."""
        raise UserError(
            f"on Kubernetes no replica can be slowed ({len(replicas)} to {share:.0%} of a core): "
            "run this scenario with --env local"
        )

    def tokenizer_folder(self, model: str) -> Path:
        """Folder on this machine that holds the model's tokenizer.json and chat template."""
        return tokenizer_folder(self._models[model], self._cache)

    def dead_replicas(self) -> tuple[str, ...]:
        """Engines' pods that are gone or have been restarted since their arm came up."""
        dead = []
        for namespace, before in self._restarts.items():
            now = {
                pod_facts.name(pod): pod_facts.restarts(pod)
                for pod in self._engines(namespace)
                if not pod_facts.leaving(pod)
            }
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
        """None of this machine's processes serve."""
        return

    def facts(self) -> Mapping[str, Any]:
        """Versions, images, nodes, weights, and whether arms came by turns."""
        return self._facts

    def stop(self) -> None:
        """Take everything down, unless it is to be kept. Safe to repeat."""
        self._cleanup.close()

    @property
    def _api(self) -> Api:
        """The cluster, connected to when it is first needed."""
        if self._connected is None:
            api = connect(self._access)
            version = api.version()
            self._progress.note(f"cluster {api.context} ({api.server}), Kubernetes {version}")
            self._connected = api
        return self._connected

    @property
    def _namespaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(arm.namespace for arm in self._arms.values()))

    def _all_fit(self, api: Api) -> bool:
        """Whether the cluster has room for the engines and balancers of all namespaces."""
        if len(self._namespaces) == 1:
            return True
        by_namespace = {arm.namespace: arm.objects() for arm in self._arms.values()}
        pods = [need for objects in by_namespace.values() for need in wanted(objects)]
        room = free(api.find("Node"), api.find("Pod"), set(by_namespace))
        return fits(room, pods)

    def _bring_up(self, arm: DeployedArm) -> None:
        """Return when the arm is ready, and where there is no room for both, the other gone."""
        if self._is_up(arm):
            return
        if self.alternates:
            for other in self._namespaces:
                if other != arm.namespace:
                    self._take_out(other)
        deploy(self._api, arm, self._progress, self._timeout_s)
        if arm.namespace not in self._up:
            self._restarts[arm.namespace] = {
                pod_facts.name(pod): pod_facts.restarts(pod)
                for pod in self._engines(arm.namespace)
                if not pod_facts.leaving(pod)
            }
        self._up[arm.namespace] = arm.arm.name

    def _is_up(self, arm: DeployedArm) -> bool:
        """Whether its engines are up, and its balancer if it has one."""
        there = self._up.get(arm.namespace)
        return there == arm.arm.name or (there is not None and not arm.balanced)

    def _take_out(self, namespace: str) -> None:
        """Scale all of a namespace to nothing; return when its pods are gone."""
        for one in self._api.find("Deployment", namespace, OURS):
            self._api.scale(namespace, pod_facts.name(one), 0)
        self._wait(namespace).until_gone(self._timeout_s)
        self._up.pop(namespace, None)
        self._restarts.pop(namespace, None)

    def _engines(self, namespace: str) -> list[Object]:
        return self._api.find("Pod", namespace, ENGINES)

    def _wait(self, namespace: str) -> Wait:
        return Wait(self._api, namespace, self._progress)

    def _release(self) -> None:
        if self._keep and self._up:
            self._progress.note(
                "left running: namespace " + ", ".join(self._up) + "; python -m bench teardown"
            )
            return
        for namespace in self._namespaces:
            teardown(self._api, namespace, self._progress, self._timeout_s)

    def _release_load(self) -> None:
        if self._keep:
            self._progress.note(f"left running: namespace {LOAD_NAMESPACE}")
        else:
            teardown(self._api, LOAD_NAMESPACE, self._progress, self._timeout_s)


FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def tokenizer_folder(model: Model, cache: Path) -> Path:
    """A folder with tokenizer.json and the chat template.

    For a model of the hub these are downloaded, with HF_TOKEN of this machine; raises UserError
    where the hub refuses or cannot be reached.
    """
    if model.hub is None:
        return model_folder(model, cache)
    try:
        return Path(snapshot_download(model.hub, allow_patterns=list(FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        told = " ".join(str(error).split())[:300]
        raise UserError(
            f"the tokenizer of {model.hub} cannot be had, which prompts are made with: {told}; "
            "set HF_TOKEN here as well"
        ) from None
