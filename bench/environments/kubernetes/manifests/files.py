"""The generated files below `k8s/`: their text, and the files on disk."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import get_args

import yaml

from bench.config.topology import Hardware, Topology
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
HEADER = "# Made from bench/topology.yaml by `python -m bench manifests`: change it there.\n"
KUSTOMIZATION = "kustomization.yaml"
WIDTH = 100


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
            made = overlay(arm, hardware, node_folders=mounts, version=version)
            objects[overlay_path(arm, hardware) / KUSTOMIZATION] = [made]
    objects[KVCACHED_PATH / KUSTOMIZATION] = [kvcached_component(topology.gpu_engine)]
    return {
        path: HEADER + yaml.dump_all(listed, Dumper=_Dumper, sort_keys=False, width=WIDTH)
        for path, listed in objects.items()
    }


def suite_version() -> str:
    """The version of the suite, which is the tag of its images."""
    pyproject = (K8S.parent / "pyproject.toml").read_text(encoding="utf-8")
    version: str = tomllib.loads(pyproject)["project"]["version"]
    return version


def first_difference(folder: Path, files: Mapping[PurePosixPath, str]) -> str | None:
    """How `folder` differs from `files`: one line that names one file; None if it does not."""
    for path, text in files.items():
        file = folder / path
        if not file.is_file():
            return f"{file} is missing"
        if file.read_text(encoding="utf-8") != text:
            return f"{file} differs from the topology"
    for file in _left_over(folder, files):
        return f"{file} belongs to nothing in the topology"
    return None


def write_files(folder: Path, files: Mapping[PurePosixPath, str]) -> None:
    """Write `files` into `folder`, and remove other files that were generated earlier."""
    for file in _left_over(folder, files):
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _left_over(folder: Path, files: Mapping[PurePosixPath, str]) -> list[Path]:
    """Generated files in `folder` that are not among `files`."""
    wanted = {folder / path for path in files}
    return [
        file
        for file in sorted(folder.rglob("*.yaml"))
        if file not in wanted and file.read_text(encoding="utf-8").startswith(HEADER)
    ]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and repeated values in full."""

    def ignore_aliases(self, data: object) -> bool:
        del data  # whatever it is
        return True


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)
