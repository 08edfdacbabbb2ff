"""Names, labels and ports of objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bench.config.topology import Arm, Model
from bench.errors import UserError

PORT = 8000
PART_OF = "llm-bench"
ENGINE, BALANCER, LOAD = "engine", "balancer", "load"
MODEL_LABEL = "llm-bench/model"
# Where load comes from.
LOAD_NAMESPACE = "llm-bench"

# A Service's name has at most 63 characters, a label's value too, and before this one
# stands `engine-`.
LONGEST = 56
# Services that every namespace has besides those of the models, a folder of overlays, and the
# file that lists those of the models.
RESERVED = {"balancer", "cpu", "engines", "kustomization"}
_WRITTEN = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def object_name(name: str) -> str:
    """The name that a model or an arm of the topology has in Kubernetes.

    Raises UserError for one that can have none.
    """
    if not _WRITTEN.fullmatch(name) or len(name) > LONGEST:
        raise UserError(
            f"{name!r} cannot be a name on Kubernetes: give at most {LONGEST} letters, digits, "
            "dots, dashes and underscores, a letter first and no sign last"
        )
    made = re.sub("[._]", "-", name.lower())
    if made in RESERVED:
        raise UserError(f"{name!r} is taken on Kubernetes; give it another name")
    return made


def deployment_name(model: str) -> str:
    """The Deployment of a model's engines."""
    return f"engine-{object_name(model)}"


def check_distinct(names: Iterable[str]) -> None:
    """Raise UserError where two names of the topology are one on Kubernetes."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(object_name(name), name)
        if other != name:
            raise UserError(
                f"{other!r} and {name!r} are both {object_name(name)!r} on Kubernetes; "
                "give one another name"
            )


def namespace(arm: Arm) -> str:
    """Where an arm's engines live: those with KVCached apart from those without."""
    return "managed" if arm.kvcached else "baseline"


def engine_labels(model: Model, version: str) -> Mapping[str, str]:
    """The labels of all that belongs to a model's engines."""
    return {
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": deployment_name(model.name),
        "app.kubernetes.io/version": version,
        "app.kubernetes.io/part-of": PART_OF,
        "app.kubernetes.io/managed-by": PART_OF,
        **engine_selector(model),
    }


def engine_selector(model: Model) -> Mapping[str, str]:
    """What selects a model's engines. A Deployment's selector can never be changed."""
    return {"app.kubernetes.io/component": ENGINE, MODEL_LABEL: model.name}
