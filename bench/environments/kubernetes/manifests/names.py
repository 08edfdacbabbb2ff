"""Names, labels and ports of objects."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench.config.topology import Arm
from bench.errors import UserError

PORT = 8000
PART_OF = "llm-bench"
ENGINE, BALANCER, LOAD = "engine", "balancer", "load"
MODEL_LABEL = "llm-bench/model"
# The namespace of the pods that send load.
LOAD_NAMESPACE = "llm-bench"

# Names of Services and values of labels have at most 63 characters; `engine-` comes before this
# name.
LONGEST = 56
# Names that are used already: a Service of every namespace, a folder of overlays, the headless
# Service of all engines, and the file that lists the models.
RESERVED = {"balancer", "cpu", "engines", "kustomization"}
_LEGAL = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def object_name(name: str) -> str:
    """The name on Kubernetes of a model or an arm of the topology.

    Raises UserError for a name that Kubernetes cannot have.
    """
    if not _LEGAL.fullmatch(name) or len(name) > LONGEST:
        raise UserError(
            f"{name!r} cannot be a name on Kubernetes: use at most {LONGEST} letters, digits, "
            "dots, dashes and underscores; begin with a letter and end with a letter or a digit"
        )
    converted = re.sub("[._]", "-", name.lower())
    if converted in RESERVED:
        raise UserError(f"{name!r} is taken on Kubernetes; choose another name")
    return converted


def deployment_name(model: str) -> str:
    """The name of the Deployment of a model's engines."""
    return f"engine-{object_name(model)}"


def check_distinct(names: Iterable[str]) -> None:
    """Raise UserError if two names of the topology have the same name on Kubernetes."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(object_name(name), name)
        if other != name:
            raise UserError(
                f"{other!r} and {name!r} are both {object_name(name)!r} on Kubernetes; "
                "choose another name for one of them"
            )


def namespace_of(arm: Arm) -> str:
    """The namespace of an arm's engines: one for engines with KVCached, one for the others."""
    return "managed" if arm.kvcached else "baseline"
