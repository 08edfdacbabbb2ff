"""The text of every generated file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import get_args

import yaml

from bench.environments.kubernetes.manifests.engine_objects import engine_objects
from bench.environments.kubernetes.manifests.engine_spec import EngineSpec, cpu_engine, gpu_engine
from bench.environments.kubernetes.manifests.names import check_distinct, object_name
from bench.environments.kubernetes.manifests.overlay import (
    KVCACHED_PATH,
    deployable,
    kvcached,
    overlay,
    overlay_path,
)
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


WIDTH = 100


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)


def documents(objects: Iterable[Object]) -> str:
    """Several objects, each a document."""
    # What is in two places is written twice: YAML would have the second refer to the first.
    copies = (json.loads(json.dumps(one)) for one in objects)
    return "---\n".join(
        yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=WIDTH) for one in copies
    )


def operations(patch: Iterable[Object]) -> str:
    """The operations of a JSON patch, one a line: kustomize wants them as a text."""
    return "".join(
        "- " + yaml.safe_dump(one, sort_keys=False, default_flow_style=True, width=999)
        for one in patch
    )


K8S = Path(__file__).parents[4] / "k8s"


def suite_version(pyproject: Path) -> str:
    """The version of the suite, which its images have as their tag."""
    version: str = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"]
    return version


def drift(folder: Path, files: Mapping[PurePosixPath, str]) -> str | None:
    """How `folder` differs from `files`, in one line that names a file; None if it does not."""
    for path, text in files.items():
        file = folder / path
        if not file.is_file():
            return f"{file} is missing"
        if file.read_text(encoding="utf-8") != text:
            return f"{file} differs from the topology"
    for file in _left_over(folder, files):
        return f"{file} is of nothing in the topology"
    return None


def write(folder: Path, files: Mapping[PurePosixPath, str]) -> None:
    """Write `files` into `folder`, and remove what was generated there before."""
    for file in _left_over(folder, files):
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _left_over(folder: Path, files: Mapping[PurePosixPath, str]) -> list[Path]:
    wanted = {folder / path for path in files}
    return [
        file
        for file in sorted(folder.rglob("*.yaml"))
        if file not in wanted and file.read_text(encoding="utf-8").startswith(HEADER)
    ]
