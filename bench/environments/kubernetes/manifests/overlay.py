"""The overlay of each arm, and the component that adds KVCached to engines on GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import yaml

from bench.config.topology import Arm, Hardware, Layout, Topology
from bench.environments.containers.engine import arguments, engine_container, has_kvcached
from bench.environments.kubernetes.manifests.engine import environment
from bench.environments.kubernetes.objects import (
    BALANCER,
    Object,
    deployment_name,
    namespace_of,
    object_name,
)
from bench.errors import UserError

KVCACHED = Path(__file__).with_name("kvcached.yaml")
KVCACHED_PATH = PurePosixPath("components/kvcached")


def overlay_path(arm: Arm, hardware: Hardware, layout: Layout = "dedicated") -> PurePosixPath:
    """The path of an arm's overlay below `k8s/`.

    Raises UserError for an arm that cannot run on Kubernetes.
    """
    if not is_deployable(arm):
        raise UserError(
            f"arm {arm.name!r} has a command of its own, which environment k8s cannot run: give "
            "it a policy of this project's balancer, or kubernetes: kube-proxy"
        )
    overlays = PurePosixPath("overlays")
    folder = {("cpu", "dedicated"): "cpu", ("gpu", "colocated"): "colocated"}
    return overlays / folder.get((hardware, layout), "") / object_name(arm.name)


def colocated_path(*, kvcached: bool) -> PurePosixPath:
    """The path below `k8s/` of engines that share GPUs, of which there are two kinds."""
    return PurePosixPath("engines/colocated") / ("kvcached" if kvcached else "vanilla")


def is_deployable(arm: Arm) -> bool:
    """Whether the arm can run on Kubernetes."""
    return arm.policy is not None or arm.kubernetes == "kube-proxy"


def overlay(
    arm: Arm,
    hardware: Hardware,
    topology: Topology,
    *,
    node_folders: bool,
    version: str,
    shared_ports: Sequence[int] = (),
) -> Object:
    """The kustomization of an arm; `version` is that of the suite's own images.

    `node_folders` says whether its engines mount folders of the nodes. Where its engines share
    GPUs, `shared_ports` are those that they listen on in each pod.
    """
    path = overlay_path(arm, hardware, "colocated" if shared_ports else "dedicated")
    up = "/".join([".."] * len(path.parts))
    balanced, kvcached = arm.kubernetes == "balancer", has_kvcached(arm, hardware)
    engines = colocated_path(kvcached=kvcached) if shared_ports else f"engines/{hardware}"
    bases = ["base/shared", *(["base/balancer"] if balanced else []), f"{engines}"]
    components = {
        "hub": hardware == "gpu",
        "node-folders": node_folders,
        "kvcached": kvcached and not shared_ports,
    }
    made: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace_of(arm),
        "resources": [f"{up}/{base}" for base in bases],
    }
    if used := [f"{up}/components/{name}" for name, needed in components.items() if needed]:
        made["components"] = used
    made["patches"] = [_priority_class(arm), *_engine_flags(arm, hardware, topology)]
    if balanced:
        made["images"] = [{"name": "llm-bench-lb", "newTag": version}]
        made["patches"].append(_balancer(arm, version, shared_ports))
    return made


def kvcached_component(topology: Topology) -> Object:
    """The component that replaces the image of engines on GPUs by the one with KVCached."""
    made: Object = yaml.safe_load(KVCACHED.read_text(encoding="utf-8"))
    (image,), (patch,), added = made["images"], made["patches"], made.pop("variables")
    without, with_it = (
        engine_container("gpu", topology, "", kvcached=kvcached) for kvcached in (False, True)
    )
    image.update(name=without.image, newName=with_it.image, newTag=with_it.tag)
    variables = dict(with_it.variables.items() - without.variables.items()) | added
    path = "/spec/template/spec/containers/0/env/-"
    ordered = environment(dict(sorted(variables.items())))
    patch["patch"] = _json_patch("add", ((path, one) for one in ordered))
    return made


def _priority_class(arm: Arm) -> Object:
    """Renames the PriorityClass, which is cluster-wide: each namespace has one of its own."""
    name = f"llm-bench-{namespace_of(arm)}"
    return {
        "target": {"kind": "PriorityClass", "name": "llm-bench"},
        "options": {"allowNameChange": True},
        "patch": _json_patch("replace", [("/metadata/name", name)]),
    }


def _engine_flags(arm: Arm, hardware: Hardware, topology: Topology) -> Iterator[Object]:
    """Gives the engines of each model the arm's flags."""
    for model in topology.models_for(hardware, "k8s"):
        usual, own = (arguments(model, one) for one in (topology, topology.for_arm(arm)))
        changed = [
            (f"/spec/template/spec/containers/0/args/{place}", value)
            for place, (value, before) in enumerate(zip(own, usual, strict=True))
            if value != before
        ]
        if changed:
            target = {"kind": "Deployment", "name": deployment_name(model.name)}
            yield {"target": target, "patch": _json_patch("replace", changed)}


def _balancer(arm: Arm, version: str, ports: Sequence[int]) -> Object:
    """Gives the balancer the arm's policy and options, and the engines' ports if any are given."""
    assert arm.policy is not None
    label = "/metadata/labels/app.kubernetes.io~1version"
    argument = "/spec/template/spec/containers/0/args/-"
    added = [
        (label, version),
        (f"/spec/template{label}", version),
        *((argument, value) for value in ("--policy", arm.policy, *arm.options)),
    ]
    # In place of its first argument, which finds an engine in each pod.
    where = f"--endpoints-kubernetes=engines:{','.join(map(str, ports))}"
    replaced = [(f"{argument[:-1]}0", where)] if ports else []
    return {
        "target": {"kind": "Deployment", "name": BALANCER},
        "patch": _json_patch("replace", replaced) + _json_patch("add", added),
    }


def _json_patch(operation: str, changes: Iterable[tuple[str, object]]) -> str:
    """A JSON patch with one line per pair of path and value: kustomize wants it as a text."""
    return "".join(
        "- "
        + yaml.safe_dump(
            {"op": operation, "path": path, "value": value},
            sort_keys=False,
            default_flow_style=True,
            width=999,
        )
        for path, value in changes
    )
