"""The objects of an arm, as `kubectl kustomize` builds them, for the models that are wanted."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path

import yaml

from bench.environments.kubernetes.manifests.names import MODEL_LABEL
from bench.environments.kubernetes.objects import Object
from bench.errors import UserError

_TIMEOUT_S = 120.0


def build(folder: Path) -> list[Object]:
    """Every object of a kustomization. Raises UserError without kubectl, or if it refuses."""
    command = ["kubectl", "kustomize", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except FileNotFoundError:
        raise UserError(
            "kubectl is not installed, which builds the manifests: "
            "see https://kubernetes.io/docs/tasks/tools/"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{' '.join(command)} took more than {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        told = " ".join(done.stderr.split())
        raise UserError(f"{' '.join(command)} failed: {told}")
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def model_of(one: Object) -> str | None:
    """The model that an object belongs to, None for one of all."""
    labels: dict[str, str] = one["metadata"].get("labels") or {}
    return labels.get(MODEL_LABEL)


def of_models(objects: Collection[Object], models: Collection[str]) -> list[Object]:
    """What is of all models or of one of `models`."""
    return [one for one in objects if model_of(one) is None or model_of(one) in models]
