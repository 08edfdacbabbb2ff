"""Overlays, one for each arm, and the component that makes engines those with KVCached."""

from __future__ import annotations

from pathlib import PurePosixPath

from bench.environments.kubernetes.manifests.engine_spec import (
    IMAGE,
    KVCACHED_IMAGE,
    KVCACHED_TAG,
    kvcached_variables,
)
from bench.environments.kubernetes.manifests.files import operations
from bench.environments.kubernetes.manifests.names import ENGINE, namespace, object_name
from bench.environments.kubernetes.objects import Object
from bench.errors import UserError

KVCACHED_PATH = PurePosixPath("components/kvcached")
ENGINES = f"app.kubernetes.io/component={ENGINE}"


def overlay_path(arm: Arm, hardware: Hardware) -> PurePosixPath:
    """The overlay of an arm, below `k8s/`.

    Raises UserError for an arm that Kubernetes cannot have.
    """
    if not deployable(arm):
        raise UserError(
            f"arm {arm.name!r} has a command of its own, on Kubernetes an arm has a policy of "
            "this project's balancer, or kubernetes: kube-proxy"
        )
    overlays = PurePosixPath("overlays")
    folder = overlays / "cpu" if hardware == "cpu" else overlays
    return folder / object_name(arm.name)


def deployable(arm: Arm) -> bool:
    """Whether Kubernetes can have the arm."""
    return arm.policy is not None or arm.kubernetes == "kube-proxy"


def overlay(arm: Arm, hardware: Hardware, *, node_folders: bool, version: str) -> Object:
    """The kustomization of an arm.

    `node_folders` tells whether its engines mount folders of the nodes.
    """
    up = "/".join([".."] * len(overlay_path(arm, hardware).parts))
    balanced = arm.kubernetes == "balancer"
    bases = ["base/shared", *(["base/balancer"] if balanced else []), f"engines/{hardware}"]
    components = {
        "hub": hardware == "gpu",
        "node-folders": node_folders,
        "kvcached": arm.kvcached and hardware == "gpu",
    }
    made: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace(arm),
        "resources": [f"{up}/{base}" for base in bases],
    }
    if wanted := [f"{up}/components/{name}" for name, is_ in components.items() if is_]:
        made["components"] = wanted
    made["patches"] = [_own_priority(arm)]
    if balanced:
        made["images"] = [{"name": "llm-bench-lb", "newTag": version}]
        made["patches"].append(_balancer(arm, version))
    return made


def kvcached(engine: GpuEngineEntry) -> Object:
    """The component that gives engines on GPUs KVCached."""
    path = "/spec/template/spec/containers/0/env/-"
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "images": [{"name": IMAGE, "newName": KVCACHED_IMAGE, "newTag": KVCACHED_TAG}],
        "patches": [
            {
                "target": {"kind": "Deployment", "labelSelector": ENGINES},
                "patch": operations(
                    {"op": "add", "path": path, "value": dict(value)}
                    for value in kvcached_variables(engine)
                ),
            }
        ],
    }


def _own_priority(arm: Arm) -> Object:
    """A PriorityClass is the cluster's: each namespace has its own, so that it goes with it."""
    name = f"llm-bench-{namespace(arm)}"
    return {
        "target": {"kind": "PriorityClass", "name": "llm-bench"},
        "options": {"allowNameChange": True},
        "patch": operations([{"op": "replace", "path": "/metadata/name", "value": name}]),
    }


def _balancer(arm: Arm, version: str) -> Object:
    assert arm.policy is not None
    label = "/metadata/labels/app.kubernetes.io~1version"
    argument = "/spec/template/spec/containers/0/args/-"
    added = [
        (label, version),
        (f"/spec/template{label}", version),
        *((argument, value) for value in ("--policy", arm.policy, *arm.options)),
    ]
    return {
        "target": {"kind": "Deployment", "name": "balancer"},
        "patch": operations({"op": "add", "path": path, "value": value} for path, value in added),
    }
