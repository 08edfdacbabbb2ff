"""The objects of a model: Deployment, Service, PodDisruptionBudget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.environments.kubernetes.manifests.engine_spec import VLLM_VERSION, EngineSpec, Volume
from bench.environments.kubernetes.manifests.names import (
    PORT,
    deployment_name,
    engine_labels,
    engine_selector,
    object_name,
)
from bench.environments.kubernetes.objects import Object

# How an engine ends: its address is taken out, which takes others a while to learn; then it
# finishes what it has.
LEAVING_S = 10
DRAINING_S = 120
ENDING_S = 20
# A start may load weights from the hub.
START_S = 1200
START_POLL_S = 5


def engine_objects(model: Model, spec: EngineSpec) -> tuple[Object, ...]:
    """All objects of a model's engines, without a namespace."""
    name, selector = deployment_name(model.name), dict(engine_selector(model))
    return (
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(name, model),
            "spec": {
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
                    "metadata": {"labels": dict(engine_labels(model, VLLM_VERSION))},
                    "spec": _pod(selector, spec),
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(object_name(model.name), model),
            "spec": {
                "type": "ClusterIP",
                "selector": selector,
                "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _metadata(name, model),
            "spec": {
                "maxUnavailable": 1,
                # One that never came up protects nobody.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": selector},
            },
        },
    )


def _metadata(name: str, model: Model) -> Object:
    return {"name": name, "labels": dict(engine_labels(model, VLLM_VERSION))}


def _pod(selector: Mapping[str, str], spec: EngineSpec) -> Object:
    pod: Object = {
        "serviceAccountName": "engine",
        "automountServiceAccountToken": False,
        # Of a Service named vllm, vLLM would take VLLM_PORT for its own setting.
        "enableServiceLinks": False,
        "priorityClassName": "llm-bench",
        "terminationGracePeriodSeconds": LEAVING_S + DRAINING_S + ENDING_S,
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
                "labelSelector": {"matchLabels": dict(selector)},
            }
        ],
    }
    if spec.tolerations:
        pod["tolerations"] = [dict(one) for one in spec.tolerations]
    pod["containers"] = [_container(spec)]
    pod["volumes"] = [{"name": one.name, **one.source} for one in spec.volumes]
    return pod


def _container(spec: EngineSpec) -> Object:
    container: Object = {"name": "vllm", "image": spec.image}
    if spec.command:
        container["command"] = list(spec.command)
    return {
        **container,
        "args": [*spec.arguments, "--port", str(PORT), "--shutdown-timeout", str(DRAINING_S)],
        "env": [dict(one) for one in spec.variables],
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _probe(START_POLL_S, START_S // START_POLL_S, timeout_s=2),
        "readinessProbe": _probe(5, 3, timeout_s=5),
        # Two minutes: an engine that has much to do may be slow to say so.
        "livenessProbe": _probe(20, 6, timeout_s=10),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVING_S}}},
        "resources": {"requests": dict(spec.requests), "limits": dict(spec.limits)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [_mount(one) for one in spec.volumes],
    }


def _probe(every_s: int, failures: int, *, timeout_s: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": every_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }


def _mount(volume: Volume) -> Object:
    mount: Object = {"name": volume.name, "mountPath": volume.path}
    return {**mount, "readOnly": True} if volume.read_only else mount
