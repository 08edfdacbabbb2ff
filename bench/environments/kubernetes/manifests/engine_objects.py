"""The objects of a model's engines: Deployment, Service, PodDisruptionBudget."""

from __future__ import annotations

from collections.abc import Mapping

from bench.environments.kubernetes.manifests.engine_spec import VLLM_VERSION, EngineSpec, Volume
from bench.environments.kubernetes.manifests.names import (
    PORT,
    deployment_name,
    engine_labels,
    engine_selector,
    object_name,
)
from bench.environments.kubernetes.objects import Object

# How an engine ends: it leaves the Service, which clients take a while to notice; then it
# finishes the requests that it has.
PRE_STOP_S = 10
DRAIN_S = 120
EXIT_S = 20
# A start may download weights from the hub.
START_S = 1200
START_PERIOD_S = 5


def engine_objects(model: Model, spec: EngineSpec) -> tuple[Object, ...]:
    """All objects of a model's engines, without a namespace."""
    selector = engine_selector(model)
    deployment = {
        "replicas": model.replicas,
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": START_S + 300,
        # There is no spare GPU for one more.
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
        },
        "selector": {"matchLabels": selector},
        "template": {
            "metadata": {"labels": engine_labels(model, VLLM_VERSION)},
            "spec": _pod(selector, spec),
        },
    }
    service = {
        "type": "ClusterIP",
        "selector": selector,
        "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
    }
    budget = {
        "maxUnavailable": 1,
        # A pod that never became ready need not be protected.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector},
    }
    name = deployment_name(model.name)
    return tuple(
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": named, "labels": engine_labels(model, VLLM_VERSION)},
            "spec": made,
        }
        for version, kind, named, made in (
            ("apps/v1", "Deployment", name, deployment),
            ("v1", "Service", object_name(model.name), service),
            ("policy/v1", "PodDisruptionBudget", name, budget),
        )
    )


def environment(variables: Mapping[str, str | Object]) -> list[Object]:
    """The `env` of a container."""
    return [
        {"name": name, "value" if isinstance(value, str) else "valueFrom": value}
        for name, value in variables.items()
    ]


def _pod(selector: Mapping[str, str], spec: EngineSpec) -> Object:
    tolerations = {"tolerations": spec.tolerations} if spec.tolerations else {}
    return {
        "serviceAccountName": "engine",
        "automountServiceAccountToken": False,
        # With a Service named vllm, Kubernetes would set VLLM_PORT, which vLLM takes for its own.
        "enableServiceLinks": False,
        "priorityClassName": "llm-bench",
        "terminationGracePeriodSeconds": PRE_STOP_S + DRAIN_S + EXIT_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": spec.user,
            "runAsGroup": spec.group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector},
            }
        ],
        **tolerations,
        "containers": [_container(spec)],
        "volumes": [{"name": one.name, **one.source} for one in spec.volumes],
    }


def _container(spec: EngineSpec) -> Object:
    command = {"command": spec.command} if spec.command else {}
    return {
        "name": "vllm",
        "image": spec.image,
        **command,
        "args": [*spec.arguments, "--port", str(PORT), "--shutdown-timeout", str(DRAIN_S)],
        "env": environment(spec.variables),
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _probe(START_PERIOD_S, START_S // START_PERIOD_S, timeout_s=2),
        "readinessProbe": _probe(5, 3, timeout_s=5),
        # Two minutes: an engine under load may be slow to answer.
        "livenessProbe": _probe(20, 6, timeout_s=10),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
        "resources": {"requests": spec.requests, "limits": spec.limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [_mount(one) for one in spec.volumes],
    }


def _probe(period_s: int, failures: int, *, timeout_s: int) -> Object:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }


def _mount(volume: Volume) -> Object:
    mount: Object = {"name": volume.name, "mountPath": volume.path}
    return {**mount, "readOnly": True} if volume.read_only else mount
