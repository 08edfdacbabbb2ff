"""What `kubectl kustomize` makes of `k8s/`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from bench.environments.kubernetes import deploying
from bench.environments.kubernetes.manifests.files import K8S
from bench.environments.kubernetes.objects import Object

# The versions of Kubernetes that are supported. The oldest has to know `preStop: sleep`, as every
# cluster does from 1.30 on.
SUPPORTED_VERSIONS = ("1.32", "1.33", "1.34", "1.35", "1.36", "1.37")

OVERLAYS = sorted(
    str(file.parent.relative_to(K8S)) for file in (K8S / "overlays").rglob("kustomization.yaml")
)
APPLIED = [*OVERLAYS, "load"]


def need_kubectl() -> None:
    """Skip the test that asks, where there is none."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: see https://kubernetes.io/docs/tasks/tools/")


def build(folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    need_kubectl()
    return [dict(one) for one in deploying.build(folder)]


@cache
def _text(path: str) -> str:
    return yaml.safe_dump_all(build(K8S / path))


def applied(path: str) -> list[Object]:
    """The objects of a folder below `k8s/`, a copy of one's own."""
    return list(yaml.safe_load_all(_text(path)))


def schema_errors(objects: Sequence[Object]) -> list[str]:
    """What the schemas of all supported versions have against `objects`."""
    return [error for one in objects for error in _schema_errors(json.dumps(one))]


@cache  # overlays have most objects in common
def _schema_errors(text: str) -> tuple[str, ...]:
    one = json.loads(text)
    errors = []
    for version in SUPPORTED_VERSIONS:
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            errors.append(f"{version}: {kind(one)} {name(one)}: {error.message}")
    return tuple(errors)


def kind(one: Object) -> str:
    return str(one["kind"])


def name(one: Object) -> str:
    return str(one["metadata"]["name"])


def of_kind(objects: Sequence[Object], wanted: str) -> list[Object]:
    return [one for one in objects if kind(one) == wanted]


def find(objects: Sequence[Object], wanted: str, named: str) -> Object:
    """The one object of a kind and a name."""
    (found,) = [one for one in of_kind(objects, wanted) if name(one) == named]
    return found


def pods(objects: Sequence[Object]) -> list[tuple[str, Object]]:
    """The pod template of each workload, with the workload's name."""
    return [template for wanted in ("Deployment", "Job") for template in templates(objects, wanted)]


def templates(objects: Sequence[Object], wanted: str) -> list[tuple[str, Object]]:
    """The same of the workloads of a kind."""
    return [(name(one), one["spec"]["template"]) for one in of_kind(objects, wanted)]


def containers(template: Object) -> list[Object]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]
