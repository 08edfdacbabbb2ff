"""Models, replicas and arms: the one file of truth, `topology.yaml`.

Everything that names a model or an arm reads it from here; nothing else in the
project lists them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, with_config

from bench.errors import UserError
from bench.records import Connections
from bench.yamlfile import load_yaml

DEFAULT_TOPOLOGY = Path(__file__).with_name("topology.yaml")

Architecture = Literal["llama", "qwen2", "mistral"]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]
Entry = TypeVar("Entry")

_strict = with_config(ConfigDict(extra="forbid"))


@_strict
@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as written: either an `architecture` to make, or a `path` with weights."""

    architecture: Architecture | None = None
    path: Path | None = None
    counterpart: str | None = None
    replicas: Count = 2


@_strict
@dataclass(frozen=True, slots=True)
class ArmEntry:
    """An arm as written: a `policy` of this project's balancer, or a `command`.

    `options` are further ones of the balancer with that policy. Where connections decide who
    serves, as behind kube-proxy, `connections` tells whether the load keeps them.
    """

    port: Port
    policy: str | None = None
    command: tuple[str, ...] | None = None
    options: tuple[str, ...] = ()
    connections: Connections = "kept"


@_strict
@dataclass(frozen=True, slots=True)
class EngineEntry:
    """Flags of every engine in environment `local`; sizes in MiB.

    `trace_mean_tokens` is what requests of a trace are scaled to, prompt and answer
    together, on average: no flag, but what the engine can hold.
    """

    max_model_len: Count = 2048
    max_num_seqs: Count = 16
    kv_cache_mib: Count = 256
    first_port: Port = 8100
    trace_mean_tokens: Count | None = None


@_strict
@dataclass(frozen=True, slots=True)
class TopologyFile:
    models: dict[str, ModelEntry]
    arms: dict[str, ArmEntry]
    engine: EngineEntry = field(default_factory=EngineEntry)


@dataclass(frozen=True, slots=True)
class Model:
    """A model to serve. Exactly one of `architecture` and `path` is set."""

    name: str
    architecture: Architecture | None
    path: Path | None
    counterpart: str | None
    replicas: int

    @property
    def random_weights(self) -> bool:
        return self.path is None


@dataclass(frozen=True, slots=True)
class Arm:
    """A configuration under test. Exactly one of `policy` and `command` is set."""

    name: str
    port: int
    policy: str | None
    command: tuple[str, ...] | None
    options: tuple[str, ...] = ()
    connections: Connections = "kept"


@dataclass(frozen=True, slots=True)
class Topology:
    models: Mapping[str, Model]
    arms: Mapping[str, Arm]
    engine: EngineEntry

    def select_models(self, names: Iterable[str]) -> tuple[Model, ...]:
        """The named models in the order given; all of them if `names` is empty."""
        wanted = tuple(names) or tuple(self.models)
        return tuple(_pick(self.models, name, "model") for name in wanted)

    def arm(self, name: str) -> Arm:
        return _pick(self.arms, name, "arm")


def load_topology(path: Path = DEFAULT_TOPOLOGY) -> Topology:
    """Read a topology file. Raises UserError with one line for any mistake in it."""
    written = load_yaml(path, TopologyFile)
    if not written.models:
        raise UserError(f"{path}: models: none are listed, list at least one")
    for model, entry in written.models.items():
        if (entry.architecture is None) == (entry.path is None):
            raise UserError(f"{path}: models.{model}: give either architecture or path")
    for arm, entry_ in written.arms.items():
        if (entry_.policy is None) == (entry_.command is None):
            raise UserError(f"{path}: arms.{arm}: give either policy or command")
        if entry_.options and entry_.policy is None:
            raise UserError(f"{path}: arms.{arm}: options belong to a policy, not to a command")
    return Topology(
        models={
            name: Model(name, entry.architecture, entry.path, entry.counterpart, entry.replicas)
            for name, entry in written.models.items()
        },
        arms={
            name: Arm(
                name,
                entry.port,
                entry.policy,
                entry.command,
                entry.options,
                connections=entry.connections,
            )
            for name, entry in written.arms.items()
        },
        engine=written.engine,
    )


def _pick(known: Mapping[str, Entry], name: str, what: str) -> Entry:
    try:
        return known[name]
    except KeyError:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise UserError(f"unknown {what} {name!r}; known: {', '.join(known)}{hint}") from None
