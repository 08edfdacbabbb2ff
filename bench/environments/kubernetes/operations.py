"""What the commands do in environment `k8s`: arms in namespaces, reached through the API server."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from bench.config.options import Options
from bench.config.topology import Arm, Model, Topology
from bench.environments.containers.engine import PORT
from bench.environments.kubernetes.access import Access, connect_noted
from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.deploying import BALANCER_PORT, DeployedArm, deploy, teardown
from bench.environments.kubernetes.holding import refuse_while_held
from bench.environments.kubernetes.objects import (
    BALANCER,
    ENGINE,
    LOAD_NAMESPACE,
    OURS,
    Resource,
    namespace_of,
)
from bench.environments.kubernetes.waiting import find_problems, late_pods
from bench.environments.operations import Kind, Operations, Service
from bench.errors import UserError
from bench.processes.guarded import lines_of_engine
from bench.progress import Progress

_COMPONENT = "app.kubernetes.io/component"


def make_operations(options: Options, topology: Topology, progress: Progress) -> Operations:
    """The operations on the cluster that the options name. Sends no request yet."""
    access = Access.chosen(options.kubeconfig, options.context, os.environ)
    return KubernetesOperations(access, topology, progress, options.ready_timeout)


class KubernetesOperations(Operations):
    """Arms with the same engines share a namespace, which has one balancer at most.

    Pods may take `timeout_s` to become ready, or to end.
    """

    def __init__(
        self, access: Access, topology: Topology, progress: Progress, timeout_s: float
    ) -> None:
        self._access = access
        self._topology = topology
        self._progress = progress
        self._timeout_s = timeout_s

    @contextmanager
    def hold(self, what: str, progress: Progress, timeout_s: float) -> Iterator[None]:
        """A run that holds the cluster is not waited for: its arms would be pulled away."""
        del what, timeout_s
        refuse_while_held(self._api, progress)
        yield

    def deploy(self, arms: Sequence[Arm], models: Sequence[Model], *, keep: bool) -> None:
        """Where a namespace already has replicas, all of it stays: somebody may be using them."""
        deployed = [DeployedArm(arm, tuple(models), self._topology.layout) for arm in arms]
        _check_distinct(deployed)
        api = self._api
        ours = []
        for namespace in dict.fromkeys(arm.namespace for arm in deployed):
            if not keep and api.find("Deployment", namespace, OURS):
                self._progress.note(
                    f"namespace {namespace} has replicas: they stay, even if this fails"
                )
            elif not keep:
                ours.append(namespace)
        try:
            for arm in deployed:
                deploy(api, arm, self._progress, self._timeout_s)
        except (UserError, KeyboardInterrupt):
            for namespace in ours:
                try:
                    teardown(api, namespace, self._progress, self._timeout_s)
                except UserError as error:  # the failure before it matters more
                    self._progress.note(f"namespace {namespace} is not taken down: {error}")
            raise

    def services(self, arms: Sequence[Arm] | None) -> tuple[Service, ...]:
        """All pods of the suite in the arms' namespaces, and Deployments without pods."""
        spaces = self._namespaces(arms)
        return tuple(
            one
            for space in spaces
            for one in sorted(self._services_in(space), key=lambda one: (one.kind, one.name))
        )

    def fetch(self, service: Service, path: str) -> bytes:
        """GET through the API server's proxy of pods, which network policies may not let in."""
        namespace, pod, port = _place_of(service)
        default = BALANCER_PORT if service.kind == "balancer" else PORT
        return self._api.fetch(namespace, pod, port or default, path)

    def logs(self, service: Service, lines: int | None, *, follow: bool) -> Iterator[str]:
        """Of an engine that shares a pod, its own among the last lines of the pod."""
        namespace, pod, port = _place_of(service)
        found = self._api.lines(namespace, pod, lines, follow=follow)
        return lines_of_engine(found, service.model) if port else found

    def teardown(self, arms: Sequence[Arm] | None) -> bool:
        """Delete the arms' namespaces and the pods that send load, whoever has deployed them."""
        spaces = (*self._namespaces(arms), LOAD_NAMESPACE)
        gone = [teardown(self._api, one, self._progress, self._timeout_s) for one in spaces]
        return any(gone)

    @cached_property
    def _api(self) -> Api:
        """The cluster, connected to when it is first needed."""
        return connect_noted(self._access, self._progress)

    def _namespaces(self, arms: Sequence[Arm] | None) -> tuple[str, ...]:
        wanted = self._topology.arms.values() if arms is None else arms
        return tuple(dict.fromkeys(map(namespace_of, wanted)))

    def _services_in(self, namespace: str) -> Iterator[Service]:
        api = self._api
        deployments = {one.name: one for one in api.find("Deployment", namespace, OURS)}
        problems = find_problems(api, namespace, deployments, late_pods(api, namespace))
        reasons = {one.name: one.reason.text for one in problems}
        for pod in api.find("Pod", namespace, OURS):
            row = self._service(pod, namespace, reasons.get(pod.name) or pod.state or "running")
            engines = pod.engines if row.kind == "engine" else {}
            for model, port in engines.items():
                yield replace(row, name=f"{namespace}/{pod.name_at(port)}", model=model)
            if not engines:
                yield row
        for name, one in deployments.items():
            if name in reasons:
                yield self._service(one, namespace, reasons[name])

    def _service(self, one: Resource, namespace: str, state: str) -> Service:
        """A pod, or a Deployment without pods, as a row; its name is `NAMESPACE/NAME`."""
        kind: Kind = "balancer" if one.labels.get(_COMPONENT) == BALANCER else "engine"
        made = Service(
            kind,
            f"{namespace}/{one.name}",
            arm=self._arm_of(kind, one, namespace),
            model=one.model or "",
            state=state,
            log=f"kubectl -n {namespace} logs {one.name}",
        )
        if "template" in one["spec"]:  # a Deployment
            return replace(made, log="")
        return replace(
            made,
            place=str(one["spec"].get("nodeName") or ""),
            ready=one.is_ready,
            restarts=one.restart_count,
            uptime_s=_uptime_s(one),
            kvcached=kind == ENGINE and _wants_kvcached(one),
        )

    def _arm_of(self, kind: Kind, one: Resource, namespace: str) -> str:
        """The only arm of a namespace, and for a balancer the arm that has its policy."""
        arms = [arm for arm in self._topology.arms.values() if namespace_of(arm) == namespace]
        if kind == BALANCER:
            arms = [arm for arm in arms if arm.kubernetes == "balancer" and _balances(one, arm)]
        return arms[0].name if len(arms) == 1 else ""


def _place_of(service: Service) -> tuple[str, str, int]:
    """Namespace and pod of a service, and its port; 0 if it has the pod for itself."""
    namespace, _, rest = service.name.partition("/")
    pod, _, port = rest.partition(":")
    return namespace, pod, int(port or 0)


def _balances(one: Resource, arm: Arm) -> bool:
    """Whether a balancer's pod or Deployment has the policy and the options of `arm`."""
    pod = one["spec"].get("template") or one
    arguments = list(pod["spec"]["containers"][0].get("args") or ())
    own = ["--policy", arm.policy, *arm.options]
    return arguments[-len(own) :] == own


def _check_distinct(arms: Sequence[DeployedArm]) -> None:
    """Raise UserError for two arms of which only one can be up at a time."""
    balanced: dict[str, str] = {}
    for one in arms:
        other = balanced.setdefault(one.namespace, one.arm.name) if one.balanced else None
        if other not in (None, one.arm.name):
            raise UserError(
                f"arms {other} and {one.arm.name} share namespace {one.namespace}, which has one "
                "balancer at a time: deploy one of them"
            )


def _wants_kvcached(pod: Resource) -> bool:
    variables = pod["spec"]["containers"][0].get("env") or ()
    return any(one["name"] == "ENABLE_KVCACHED" and one.get("value") == "true" for one in variables)


def _uptime_s(pod: Resource) -> float | None:
    """Seconds since the start of its container; None if it does not run, or it is not said."""
    for container in pod.container_statuses:
        started = ((container.get("state") or {}).get("running") or {}).get("startedAt")
        if started:
            since = datetime.datetime.fromisoformat(str(started))
            return max(0.0, (datetime.datetime.now(datetime.UTC) - since).total_seconds())
    return None
