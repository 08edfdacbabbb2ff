"""Kubernetes objects as JSON values: their names, labels and kinds, and what they say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.config.topology import Arm
from bench.errors import UserError
from bench.records import Replica

Object = dict[str, Any]
"""An object of the API, or a part of one, as JSON values."""

PORT = 8000
ENGINE, BALANCER, LOAD = "engine", "balancer", "load"
MODEL_LABEL = "llm-bench/model"
# The namespace of the pods that send load.
LOAD_NAMESPACE = "llm-bench"
# The labels of every object that the suite applies.
PART_OF = "llm-bench"
OURS = {"app.kubernetes.io/part-of": PART_OF, "app.kubernetes.io/managed-by": PART_OF}
# The annotation of a namespace that the suite has created. Only such a namespace is ever deleted.
CREATED_BY = "llm-bench/made-by"

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


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects, and where the API server has them."""

    name: str
    prefix: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return "/".join(self.prefix.split("/")[2:-1])


_TABLES = yaml.safe_load(Path(__file__).with_name("kinds.yaml").read_text(encoding="utf-8"))
APPLIED: Sequence[str] = [one["name"] for one in _TABLES["applied"]]
KINDS: Mapping[str, Kind] = {
    one["name"]: Kind(**one) for one in (*_TABLES["applied"], *_TABLES["never_applied"])
}
# By API group and plural of the kind: kinds whose objects the cluster derives from others.
DERIVED = set(map(tuple, _TABLES["derived"]))
# By API group, plural of the kind, and name: objects that every namespace has.
DEFAULT = set(map(tuple, _TABLES["default"]))


def name_of(one: Object) -> str:
    """The object's name."""
    return str(one["metadata"]["name"])


def model_of(one: Object) -> str | None:
    """The model that an object belongs to; None for one that serves all models."""
    labels: dict[str, str] = one["metadata"].get("labels") or {}
    return labels.get(MODEL_LABEL)


def is_created_by_us(namespace: Object) -> bool:
    """Whether the namespace has the annotation that the suite has created it."""
    annotations = namespace["metadata"].get("annotations") or {}
    return bool(annotations.get(CREATED_BY) == PART_OF)


def conditions(one: Object) -> Mapping[str, Object]:
    """The conditions in the object's status, by their type."""
    found = (one.get("status") or {}).get("conditions") or ()
    return {str(condition.get("type")): condition for condition in found}


def true_conditions(one: Object) -> Mapping[str, str]:
    """The message of each condition that is true, by its type; the reason if it has no message."""
    return {
        kind: str(condition.get("message") or condition.get("reason") or "")
        for kind, condition in conditions(one).items()
        if condition.get("status") == "True"
    }


def container_statuses(pod: Object) -> Sequence[Object]:
    """The status of each of the pod's containers, without init containers."""
    found: Sequence[Object] = (pod.get("status") or {}).get("containerStatuses") or ()
    return found


def is_terminating(pod: Object) -> bool:
    """Whether the pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def is_ready(pod: Object) -> bool:
    """Whether the pod takes requests."""
    return not is_terminating(pod) and "Ready" in true_conditions(pod)


def restart_count(pod: Object) -> int:
    """How often the pod's containers have been restarted."""
    return sum(int(one.get("restartCount") or 0) for one in container_statuses(pod))


def state_of(pod: Object) -> str:
    """What a pod is waiting for or doing, in one word; empty if it is ready."""
    if is_terminating(pod):
        return "ending"
    if is_ready(pod):
        return ""
    for container in container_statuses(pod):
        state = container.get("state") or {}
        if waiting := state.get("waiting"):
            return str(waiting.get("reason") or "waiting")
        if "running" in state:
            return "starting"
    return str((pod.get("status") or {}).get("phase") or "unknown").lower()


def completion_index(pod: Object) -> int:
    """The index of a pod within its Indexed Job, from 0."""
    return int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])


def as_replica(pod: Object) -> Replica:
    """An engine's pod as a replica of its model."""
    address = pod["status"]["podIP"]
    host = f"[{address}]" if ":" in address else address
    return Replica(pod["metadata"]["labels"][MODEL_LABEL], name_of(pod), f"http://{host}:{PORT}")


def one_line(text: object, limit: int = 300) -> str:
    """What the cluster or a program wrote, as one line of at most `limit` characters."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
