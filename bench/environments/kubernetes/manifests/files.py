"""The text of every generated file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import get_args

from bench.config.topology import Hardware, Model, Topology
from bench.environments.kubernetes.manifests.cpu import cpu_engine
from bench.environments.kubernetes.manifests.engine import engine_objects
from bench.environments.kubernetes.manifests.gpu import gpu_engine
from bench.environments.kubernetes.manifests.names import check_distinct, object_name
from bench.environments.kubernetes.manifests.overlay import (
    KVCACHED_PATH,
    deployable,
    kvcached,
    overlay,
    overlay_path,
)
from bench.environments.kubernetes.manifests.spec import EngineSpec
from bench.environments.kubernetes.manifests.text import documents
from bench.environments.kubernetes.objects import Object

HEADER = "# Made from bench/topology.yaml by `python -m bench manifests`: change it there.\n"
KUSTOMIZATION = "kustomization.yaml"
HARDWARE: tuple[Hardware, ...] = get_args(Hardware)


def manifest_files(topology: Topology, version: str) -> Mapping[PurePosixPath, str]:
    """Every generated file below `k8s/`, by its path; `version` is that of our images.

    Raises UserError for a name that cannot be one on Kubernetes.
    """
    check_distinct(topology.models)
    check_distinct(arm.name for arm in topology.arms.values() if deployable(arm))
    files: dict[PurePosixPath, str] = {}
    for hardware in HARDWARE:
        specs = {
            model: engine_spec(model, topology, version) for model in topology.models_for(hardware)
        }
        if specs:
            files |= _engines(specs, PurePosixPath("engines") / hardware)
            files |= _overlays(topology, hardware, specs.values(), version)
    files[KVCACHED_PATH / KUSTOMIZATION] = _text([kvcached(topology.gpu_engine)])
    return files


def engine_spec(model: Model, topology: Topology, version: str) -> EngineSpec:
    """What a model's engines are given."""
    if model.hardware == "gpu":
        return gpu_engine(model, topology.gpu_engine)
    return cpu_engine(model, topology.engine, version)


def _engines(
    specs: Mapping[Model, EngineSpec], folder: PurePosixPath
) -> Mapping[PurePosixPath, str]:
    names = {model: f"{object_name(model.name)}.yaml" for model in specs}
    listed: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(names.values()),
    }
    files = {
        folder / names[model]: _text(engine_objects(model, spec)) for model, spec in specs.items()
    }
    return {**files, folder / KUSTOMIZATION: _text([listed])}


def _overlays(
    topology: Topology, hardware: Hardware, specs: Iterable[EngineSpec], version: str
) -> Mapping[PurePosixPath, str]:
    node_folders = any("hostPath" in volume.source for spec in specs for volume in spec.volumes)
    return {
        overlay_path(arm, hardware) / KUSTOMIZATION: _text(
            [overlay(arm, hardware, node_folders=node_folders, version=version)]
        )
        for arm in topology.arms.values()
        if deployable(arm)
    }


def _text(objects: Iterable[Object]) -> str:
    return HEADER + documents(objects)
