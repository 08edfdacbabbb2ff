"""The generated files below `k8s/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import get_args

from bench.config.fitting import colocated_models, flags_misfit_of
from bench.config.topology import Arm, Hardware, Layout, Topology
from bench.environments.containers.engine import PORT
from bench.environments.containers.files import file_text
from bench.environments.kubernetes.manifests.colocated import colocated_objects
from bench.environments.kubernetes.manifests.engine import engine_objects
from bench.environments.kubernetes.manifests.overlay import (
    KVCACHED_PATH,
    colocated_path,
    is_deployable,
    kvcached_component,
    overlay,
    overlay_path,
)
from bench.environments.kubernetes.objects import Object, check_distinct, object_name
from bench.paths import ROOT

K8S = ROOT / "k8s"
KUSTOMIZATION = "kustomization.yaml"


def manifest_files(topology: Topology, version: str) -> Mapping[PurePosixPath, str]:
    """The text of every generated file, by its path below `k8s/`.

    `version` is that of the suite's own images. Layout colocated has files where its models fit.
    Raises UserError for a name that cannot be one on Kubernetes.
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
        objects[folder / KUSTOMIZATION] = [_kustomization(engines)]
        mounts = any(
            "hostPath" in volume
            for deployment, *_ in engines.values()
            for volume in deployment["spec"]["template"]["spec"]["volumes"]
        )
        for arm in _with_flags_of(arms, hardware, "dedicated"):
            made = overlay(arm, hardware, topology, node_folders=mounts, version=version)
            objects[overlay_path(arm, hardware) / KUSTOMIZATION] = [made]
    objects[KVCACHED_PATH / KUSTOMIZATION] = [kvcached_component(topology)]
    objects |= _colocated(topology, arms, version)
    return {path: file_text(listed) for path, listed in objects.items()}


def _colocated(
    topology: Topology, arms: Sequence[Arm], version: str
) -> Mapping[PurePosixPath, Iterable[Object]]:
    """Engines that share GPUs, with KVCached and without, and an overlay for each arm."""
    models = colocated_models(topology, "k8s")
    if not models:
        return {}
    objects: dict[PurePosixPath, Iterable[Object]] = {}
    for kvcached in (False, True):
        folder = colocated_path(kvcached=kvcached)
        objects[folder / "engines.yaml"] = colocated_objects(models, topology, kvcached=kvcached)
        objects[folder / KUSTOMIZATION] = [_kustomization(["engines.yaml"])]
    ports = range(PORT, PORT + len(models))
    for arm in _with_flags_of(arms, "gpu", "colocated"):
        made = overlay(arm, "gpu", topology, node_folders=True, version=version, shared_ports=ports)
        objects[overlay_path(arm, "gpu", "colocated") / KUSTOMIZATION] = [made]
    return objects


def _with_flags_of(arms: Sequence[Arm], hardware: Hardware, layout: Layout) -> Iterator[Arm]:
    """The arms whose engine flags there are; a run of any other is refused."""
    return (one for one in arms if not flags_misfit_of(one, "k8s", hardware, layout))


def _kustomization(resources: Iterable[str]) -> Object:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(resources),
    }
