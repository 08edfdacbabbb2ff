"""The generated files below `k8s/`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import get_args

from bench.config.topology import Hardware, Topology
from bench.environments.containers.files import file_text
from bench.environments.kubernetes.manifests.engine import engine_objects
from bench.environments.kubernetes.manifests.overlay import (
    KVCACHED_PATH,
    is_deployable,
    kvcached_component,
    overlay,
    overlay_path,
)
from bench.environments.kubernetes.objects import Object, check_distinct, object_name

K8S = Path(__file__).parents[4] / "k8s"
KUSTOMIZATION = "kustomization.yaml"


def manifest_files(topology: Topology, version: str) -> Mapping[PurePosixPath, str]:
    """The text of every generated file, by its path below `k8s/`.

    `version` is that of the suite's own images. Raises UserError for a name that cannot be one on
    Kubernetes.
    """
    arms = [arm for arm in topology.arms.values() if is_deployable(arm)]
    check_distinct(topology.models)
    check_distinct(arm.name for arm in arms)
    objects: dict[PurePosixPath, Iterable[Object]] = {}
    hardware: Hardware
    for hardware in get_args(Hardware):
        engines = {
            f"{object_name(model.name)}.yaml": engine_objects(model, topology, version)
            for model in topology.models_for(hardware, "k8s")
        }
        if not engines:
            continue
        folder = PurePosixPath("engines") / hardware
        objects |= {folder / name: listed for name, listed in engines.items()}
        objects[folder / KUSTOMIZATION] = [
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": list(engines),
            }
        ]
        mounts = any(
            "hostPath" in volume
            for deployment, *_ in engines.values()
            for volume in deployment["spec"]["template"]["spec"]["volumes"]
        )
        for arm in arms:
            made = overlay(arm, hardware, topology, node_folders=mounts, version=version)
            objects[overlay_path(arm, hardware) / KUSTOMIZATION] = [made]
    objects[KVCACHED_PATH / KUSTOMIZATION] = [kvcached_component(topology)]
    return {path: file_text(listed) for path, listed in objects.items()}
