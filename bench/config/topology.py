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

from bench.config.yamlfile import load_yaml
from bench.errors import UserError
from bench.records import Connections

DEFAULT_TOPOLOGY = Path(__file__).parents[1] / "topology.yaml"

Architecture = Literal["llama", "qwen2", "mistral"]
Hardware = Literal["cpu", "gpu"]
Kubernetes = Literal["balancer", "kube-proxy"]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Share = Annotated[float, Field(gt=0, le=1, strict=True)]
Entry = TypeVar("Entry")

_strict = with_config(ConfigDict(extra="forbid"))


@_strict
@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as written: an `architecture` to make, a `path` with weights, or a `hub` name.

    Of these, only a model of the hub takes `gpus`, so many for each replica.
    """

    architecture: Architecture | None = None
    path: Path | None = None
    hub: str | None = None
    gpus: Count | None = None
    counterpart: str | None = None
    replicas: Count = 2


@_strict
@dataclass(frozen=True, slots=True)
class ArmEntry:
    """An arm as written: a `policy` of this project's balancer, or a `command`.

    `options` are further ones of the balancer with that policy. `kvcached` gives the arm
    engines with KVCached where there are GPUs. `kubernetes` tells what chooses a replica
    there: the balancer, or the Service itself. Where connections decide who serves, as behind
    kube-proxy, `connections` tells whether the load keeps them. `slowed` is the share of its
    core's time that each replica gets while the arm is measured: a known difference.
    """

    port: Port
    policy: str | None = None
    command: tuple[str, ...] | None = None
    options: tuple[str, ...] = ()
    kvcached: bool = False
    kubernetes: Kubernetes = "balancer"
    connections: Connections = "kept"
    slowed: Share | None = None


@_strict
@dataclass(frozen=True, slots=True)
class EngineEntry:
    """Flags of every engine on CPUs, and its first port in environment `local`; sizes in MiB.

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
class GpuEngineEntry:
    """Flags of every engine on GPUs."""

    max_model_len: Count = 8192
    gpu_memory_utilization: Share = 0.9
    max_num_seqs: Count = 256


@_strict
@dataclass(frozen=True, slots=True)
class TopologyFile:
    models: dict[str, ModelEntry]
    arms: dict[str, ArmEntry]
    engine: EngineEntry = field(default_factory=EngineEntry)
    gpu_engine: GpuEngineEntry = field(default_factory=GpuEngineEntry)


@dataclass(frozen=True, slots=True)
class Model:
    """A model to serve. Exactly one of `architecture`, `path` and `hub` is set.

    `gpus` is how many a replica takes: none but for a model of the hub.
    """

    name: str
    architecture: Architecture | None
    path: Path | None
    counterpart: str | None
    replicas: int
    hub: str | None = None
    gpus: int = 0

    @property
    def random_weights(self) -> bool:
        return self.architecture is not None

    @property
    def hardware(self) -> Hardware:
        return "cpu" if self.hub is None else "gpu"


@dataclass(frozen=True, slots=True)
class Arm:
    """A configuration under test. Exactly one of `policy` and `command` is set."""

    name: str
    port: int
    policy: str | None
    command: tuple[str, ...] | None
    options: tuple[str, ...] = ()
    kvcached: bool = False
    kubernetes: Kubernetes = "balancer"
    connections: Connections = "kept"
    slowed: float | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    models: Mapping[str, Model]
    arms: Mapping[str, Arm]
    engine: EngineEntry
    gpu_engine: GpuEngineEntry = field(default_factory=GpuEngineEntry)

    def models_for(self, hardware: Hardware) -> tuple[Model, ...]:
        """All that run on that hardware, in the order of the file; there may be none."""
        return tuple(model for model in self.models.values() if model.hardware == hardware)

    def select_models(self, names: Iterable[str], hardware: Hardware) -> tuple[Model, ...]:
        """The named models in the order given; if `names` is empty, all for that hardware.

        Raises UserError with one line for a name that is not known or needs other hardware,
        and where none is left.
        """
        fit = tuple(model.name for model in self.models_for(hardware))
        wanted = tuple(names) or fit
        if not wanted:
            raise UserError(f"the topology has no model for a {hardware}")
        picked = tuple(_pick(self.models, name, "model") for name in wanted)
        for model in picked:
            if model.hardware != hardware:
                raise UserError(
                    f"model {model.name!r} is for a {model.hardware}, here engines run on a "
                    f"{hardware}; for that: {', '.join(fit) or 'none'}"
                )
        return picked

    def arm(self, name: str) -> Arm:
        return _pick(self.arms, name, "arm")


def load_topology(path: Path = DEFAULT_TOPOLOGY) -> Topology:
    """Read a topology file. Raises UserError with one line for any mistake in it."""
    written = load_yaml(path, TopologyFile)
    if not written.models:
        raise UserError(f"{path}: models: none are listed, list at least one")
    for name, model in written.models.items():
        if mistake := _mistake_in_model(model):
            raise UserError(f"{path}: models.{name}: {mistake}")
    for name, arm in written.arms.items():
        if mistake := _mistake_in_arm(arm):
            raise UserError(f"{path}: arms.{name}: {mistake}")
    return Topology(
        models={name: _model(name, entry) for name, entry in written.models.items()},
        arms={name: _arm(name, entry) for name, entry in written.arms.items()},
        engine=written.engine,
        gpu_engine=written.gpu_engine,
    )


def _mistake_in_model(entry: ModelEntry) -> str | None:
    if sum(one is not None for one in (entry.architecture, entry.path, entry.hub)) != 1:
        return "give either architecture or path or hub"
    if entry.gpus is not None and entry.hub is None:
        return "gpus belong to a model of the hub, all others run on CPUs"
    return None


def _mistake_in_arm(entry: ArmEntry) -> str | None:
    if (entry.policy is None) == (entry.command is None):
        return "give either policy or command"
    if entry.options and entry.policy is None:
        return "options belong to a policy, not to a command"
    return None


def _model(name: str, entry: ModelEntry) -> Model:
    return Model(
        name=name,
        architecture=entry.architecture,
        path=entry.path,
        counterpart=entry.counterpart,
        replicas=entry.replicas,
        hub=entry.hub,
        gpus=0 if entry.hub is None else entry.gpus or 1,
    )


def _arm(name: str, entry: ArmEntry) -> Arm:
    return Arm(
        name=name,
        port=entry.port,
        policy=entry.policy,
        command=entry.command,
        options=entry.options,
        kvcached=entry.kvcached,
        kubernetes=entry.kubernetes,
        connections=entry.connections,
        slowed=entry.slowed,
    )


def _pick(known: Mapping[str, Entry], name: str, what: str) -> Entry:
    try:
        return known[name]
    except KeyError:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise UserError(f"unknown {what} {name!r}; known: {', '.join(known)}{hint}") from None
