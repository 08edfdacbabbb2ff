"""Environment `k8s`: engines and balancers in a Kubernetes cluster."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from bench.config.config import Config
from bench.config.topology import Arm, Model, Topology
from bench.environments.containers.colocated import ipc_name
from bench.environments.containers.engine import engine_group
from bench.environments.containers.environment import ContainerEnvironment
from bench.environments.kubernetes.access import Access, connect_noted
from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.deploying import DeployedArm, deploy, teardown
from bench.environments.kubernetes.holding import HeldCluster, hold_cluster
from bench.environments.kubernetes.load_pods import (
    PodProgram,
    PodSite,
    load_objects,
    start_load_pods,
)
from bench.environments.kubernetes.nodes import cluster_facts, fits, free_resources, pod_requests
from bench.environments.kubernetes.objects import BALANCER, ENGINES, LOAD_NAMESPACE, OURS, Resource
from bench.environments.kubernetes.streams import outcome
from bench.environments.kubernetes.waiting import LOG_LINES, Wait
from bench.environments.kvcached.collecting import Console
from bench.errors import UserError
from bench.processes.guarded import lines_of_engine, of_ended_engine
from bench.progress import Progress
from bench.records import Replica

# How many balancers an arm has in its manifests, even if a scenario asks for fewer.
BALANCERS = 2


def make_environment(config: Config, progress: Progress) -> KubernetesEnvironment:
    """The environment as the options want it; nothing is started yet."""
    options = config.options
    return KubernetesEnvironment(
        Access.chosen(options.kubeconfig, options.context, os.environ),
        tuple(config.arms.values()),
        config.cache,
        progress,
        topology=config.topology,
        load_pods=options.load_processes or 1,
        timeout_s=options.ready_timeout,
        keep=options.keep_env,
    )


class KubernetesEnvironment(ContainerEnvironment):
    """vLLM engines in pods, each arm in the namespace of its engines; see `ContainerEnvironment`.

    Between two arms of one namespace only the balancer is replaced. Load is sent from `load_pods`
    pods.
    """

    name = "k8s"

    def __init__(
        self,
        access: Access,
        arms: Sequence[Arm],
        cache: Path,
        progress: Progress,
        *,
        topology: Topology,
        timeout_s: float,
        load_pods: int = 1,
        keep: bool = False,
    ) -> None:
        super().__init__(topology, arms, cache, progress, timeout_s=timeout_s, keep=keep)
        self._access = access
        self._load_pods = load_pods
        self._arms: dict[str, DeployedArm] = {}
        self._held: HeldCluster | None = None

    @contextmanager
    def hold(self, what: str, progress: Progress, timeout_s: float) -> Iterator[None]:
        """A context in which this run holds the cluster; see `hold_cluster`.

        If the lease is lost, whatever is done next raises UserError, and nothing is taken down.
        """
        (namespace,) = (one for one in load_objects(1) if one["kind"] == "Namespace")
        with hold_cluster(self._api, namespace, what, progress, timeout_s) as self._held:
            yield

    def site(self) -> PodSite:
        """Bring up the pods that load is sent from."""
        api = self._api
        self._cleanup.callback(self._release_load)
        return start_load_pods(api, self._load_pods, self._progress, self._timeout_s)

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        """By model: the base URL of the arm's Service, with at least two balancers behind it."""
        deployed = self._arms[arm.name]
        self._bring_up(arm)
        if deployed.balanced and balancers > BALANCERS:
            self._api.scale(deployed.namespace, BALANCER, balancers)
            self._wait(deployed.namespace).until_ready(deployed.deployments)
        return deployed.routes(models)

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        """The engines in pods that are ready in the arm's namespace."""
        pods = self._engines(self._arms[arm.name].namespace)
        ready = [one for pod in pods if pod.is_ready for one in pod.as_replicas()]
        found = sorted(ready, key=lambda one: (one.model, one.name))
        return tuple(one for one in found if one.model in self._models)

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        """Raises UserError: nothing outside a pod can slow it."""
        raise UserError(
            f"on Kubernetes no replica can be slowed ({len(replicas)} to {share:.0%} of a core): "
            "run this scenario with --env local"
        )

    def processes(self) -> None:
        """None: engines do not run on this machine."""
        return

    @cached_property
    def _api(self) -> Api:
        """The cluster, connected to when it is first needed."""
        return connect_noted(self._access, self._progress)

    def _prepare(self, models: Sequence[Model]) -> None:
        self._arms = {
            arm.name: DeployedArm(arm, tuple(models), self._topology.layout) for arm in self._wanted
        }

    def _all_fit(self) -> bool:
        by_namespace = {arm.namespace: arm.objects() for arm in self._arms.values()}
        pods = [need for objects in by_namespace.values() for need in pod_requests(objects)]
        return fits(
            free_resources(self._api.find("Node"), self._api.find("Pod"), set(by_namespace)), pods
        )

    def _deploy(self, arm: Arm) -> Collection[str]:
        """Also reached are the arms that have no balancer; a namespace has one balancer."""
        self._require_held()
        deploy(self._api, self._arms[arm.name], self._progress, self._timeout_s)
        same = (one for one in self._arms.values() if one.namespace == engine_group(arm))
        return {arm.name, *(one.arm.name for one in same if not one.balanced)}

    def _stop_group(self, group: str) -> None:
        self._require_held()
        for one in self._api.find("Deployment", group, OURS):
            self._api.scale(group, one.name, 0)
        self._wait(group).until_pods_gone()

    def _teardown(self, group: str) -> None:
        if self._held is not None and (lost := self._held.lost):
            self._progress.note(f"namespace {group} is left as it is: {lost}")
        else:
            teardown(self._api, group, self._progress, self._timeout_s)

    def _require_held(self) -> None:
        if self._held is not None:
            self._held.require()

    def _latest_starts(self, group: str) -> Mapping[str, int]:
        self._require_held()  # at the end of every trial, before that counts
        pods = self._engines(group)
        return {pod.name: pod.restart_count for pod in pods if not pod.is_terminating}

    def _dead(self, group: str, name: str, *, gone: bool) -> str:
        where = f"{name} in namespace {group}"
        if gone:
            return f"{where} is gone"
        who, _ = of_ended_engine(self._api.log(group, name, LOG_LINES, previous=True))
        how = f"was restarted after the end of {who.removesuffix(': ')}" if who else "was restarted"
        return f"{where} {how}; see kubectl -n {group} logs {name} --previous"

    def _consoles(self, group: str) -> Sequence[Console]:
        ready = [pod for pod in self._engines(group) if pod.is_ready]
        return [
            self._console(group, pod, model, port)
            for pod in ready
            for model, port in pod.engines.items()
        ]

    def _console(self, namespace: str, pod: Resource, model: str, port: int) -> Console:
        """That of an engine, which has the pod for itself, or a part of the pod's log."""
        alone, container = pod.model is not None, pod["spec"]["containers"][0]["name"]

        def lines() -> Iterator[str]:
            found = self._api.lines(namespace, pod.name, None, follow=False)
            return found if alone else lines_of_engine(found, model)

        execute = partial(self._api.execute, namespace, pod.name, container)
        return Console(
            pod.name_at(port),
            model,
            pod.name if alone else ipc_name(self._models[model]),
            port,
            pod.name,
            log=lines,
            run=lambda command: outcome(execute(command)),
            start=lambda command: PodProgram(execute(command), lambda: None),
        )

    def _provenance(self) -> Mapping[str, Any]:
        nodes, pods = self._api.find("Node"), self._api.find("Pod", None, OURS)
        return cluster_facts(self._api.version(), nodes, pods, tuple(self._models.values()))

    def _engines(self, namespace: str) -> list[Resource]:
        return self._api.find("Pod", namespace, ENGINES)

    def _wait(self, namespace: str) -> Wait:
        return Wait(self._api, namespace, self._progress, self._timeout_s)

    def _release_load(self) -> None:
        if self._keep:
            self._progress.note(f"left running: namespace {LOAD_NAMESPACE}")
        else:
            self._teardown(LOAD_NAMESPACE)
