"""Kubernetes objects as JSON values: their names, labels and kinds, and what they say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.config.topology import Arm
from bench.environments.containers.colocated import ports_of
from bench.environments.containers.engine import PORT, engine_group
from bench.errors import UserError
from bench.records import Replica

Object = dict[str, Any]
"""An object of the API, or a part of one, as JSON values."""

ENGINE, BALANCER, LOAD = "engine", "balancer", "load"
MODEL_LABEL, LAYOUT_LABEL = "llm-bench/model", "llm-bench/layout"
# The Deployment of engines that share GPUs.
COLOCATED = "engine-colocated"
# The namespace of the pods that send load.
LOAD_NAMESPACE = "llm-bench"
# The labels of every object that the suite applies.
PART_OF = "llm-bench"
OURS = {"app.kubernetes.io/part-of": PART_OF, "app.kubernetes.io/managed-by": PART_OF}
# The labels of every object of engines.
ENGINES = {**OURS, "app.kubernetes.io/component": ENGINE}
# The annotation of a namespace that the suite has created. Only such a namespace is ever deleted.
CREATED_BY = "llm-bench/made-by"

# Names of Services and values of labels have at most 63 characters; `engine-` comes before this
# name.
LONGEST = 56
# Names that are used already: a Service of every namespace, two folders of overlays, the headless
# Service of all engines, and the file that lists the models.
RESERVED = {"balancer", "colocated", "cpu", "engines", "kustomization"}
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
    """The namespace of an arm's engines, which has the name of their group."""
    return engine_group(arm)


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


class Resource(Object):
    """An object of the API as a whole: what it is, and what it says of itself."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        found: Mapping[str, str] = self["metadata"].get("labels") or {}
        return found

    @property
    def model(self) -> str | None:
        """The model that it belongs to; None if it serves all models."""
        return self.labels.get(MODEL_LABEL)

    @property
    def is_created_by_us(self) -> bool:
        """Whether it is a namespace with the annotation that the suite has created it."""
        annotations = self["metadata"].get("annotations") or {}
        return bool(annotations.get(CREATED_BY) == PART_OF)

    @property
    def status(self) -> Object:
        """What the cluster says of it; empty if that is nothing."""
        found: Object = self.get("status") or {}
        return found

    @property
    def conditions(self) -> Mapping[str, Object]:
        """The conditions in its status, by their type."""
        return {str(one.get("type")): one for one in self.status.get("conditions") or ()}

    @property
    def true_conditions(self) -> Mapping[str, str]:
        """The message of each condition that is true, by its type; the reason if it has none."""
        return {
            kind: str(condition.get("message") or condition.get("reason") or "")
            for kind, condition in self.conditions.items()
            if condition.get("status") == "True"
        }

    # What follows is of pods.

    @property
    def container_statuses(self) -> Sequence[Object]:
        """The status of each of its containers, without init containers."""
        found: Sequence[Object] = self.status.get("containerStatuses") or ()
        return found

    @property
    def is_terminating(self) -> bool:
        """Whether it is being deleted."""
        return "deletionTimestamp" in self["metadata"]

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return not self.is_terminating and "Ready" in self.true_conditions

    @property
    def restart_count(self) -> int:
        """How often its containers have been restarted."""
        return sum(int(one.get("restartCount") or 0) for one in self.container_statuses)

    @property
    def state(self) -> str:
        """What it is waiting for or doing, in one word; empty if it is ready."""
        if self.is_terminating:
            return "ending"
        if self.is_ready:
            return ""
        for container in self.container_statuses:
            state = container.get("state") or {}
            if waiting := state.get("waiting"):
                return str(waiting.get("reason") or "waiting")
            if "running" in state:
                return "starting"
        return str(self.status.get("phase") or "unknown").lower()

    @property
    def completion_index(self) -> int:
        """Its index within its Indexed Job, from 0."""
        return int(self.labels["batch.kubernetes.io/job-completion-index"])

    @property
    def engines(self) -> Mapping[str, int]:
        """The port of each engine in it, by the engine's model."""
        if self.model is not None:
            return {self.model: PORT}
        return ports_of(self["spec"]["containers"][0].get("args") or ())

    def as_replicas(self) -> tuple[Replica, ...]:
        """The engines in it as replicas of their models, by the names that balancers give them."""
        address, engines = self.status["podIP"], self.engines
        host = f"[{address}]" if ":" in address else address
        return tuple(
            Replica(model, self.name_at(port), f"http://{host}:{port}")
            for model, port in engines.items()
        )

    def name_at(self, port: int) -> str:
        """The name of the engine at a port: the pod's, with the port if it has several engines."""
        return self.name if len(self.engines) == 1 else f"{self.name}:{port}"


def one_line(text: object, limit: int = 300) -> str:
    """What the cluster or a program wrote, as one line of at most `limit` characters."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
