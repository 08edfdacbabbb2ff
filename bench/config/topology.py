"""Models, replicas, arms and GPUs, from the one file that lists them: `topology.yaml`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from bench.config.peers import Peer, load_peers
from bench.config.yamlfile import Share, load_yaml, strict
from bench.errors import UserError
from bench.records import Connections

DEFAULT_TOPOLOGY = Path(__file__).parents[1] / "topology.yaml"

Architecture = Literal["llama", "qwen2", "mistral"]
Hardware = Literal["cpu", "gpu"]
GpuEnvironment = Literal["k8s", "docker"]
Kubernetes = Literal["balancer", "kube-proxy"]
Layout = Literal["dedicated", "colocated"]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Gib = Annotated[float, Field(gt=0, strict=True)]
Entry = TypeVar("Entry")
# Arms of peers have this port and the next ones.
PEER_PORT = 8040


@strict
@dataclass(frozen=True, slots=True)
class KvShape:
    """What a model keeps of each token: a key and a value in every layer and KV head.

    Each has `head_dim` numbers of `value_bytes` bytes. In the model's config.json these are
    num_hidden_layers, num_key_value_heads and head_dim (or hidden_size / num_attention_heads).
    """

    layers: Count
    heads: Count
    head_dim: Count
    value_bytes: Count = 2

    @property
    def token_bytes(self) -> int:
        """Bytes of KV cache that a token takes, on all GPUs of a replica together."""
        return 2 * self.layers * self.heads * self.head_dim * self.value_bytes


@strict
@dataclass(frozen=True, slots=True)
class Model:
    """A model to serve: an `architecture` to make, a `path` with weights, or a `hub` name.

    Exactly one of the three is set. `gpus` of each replica are for a model of the hub, and 0 for
    others. `weights_gib`, the size of its weights, and `kv`, what it keeps of a token, are for
    sizing machines. `environments` are those with GPUs that serve it in layout dedicated; empty:
    all. `counterpart` is the full-size model that a tiny one stands for.
    """

    name: str
    architecture: Architecture | None = None
    path: Path | None = None
    counterpart: str | None = None
    replicas: Count = 2
    hub: str | None = None
    gpus: Count = 0
    weights_gib: Gib | None = None
    kv: KvShape | None = None
    environments: Annotated[tuple[GpuEnvironment, ...], Field(min_length=1)] = ()

    @property
    def random_weights(self) -> bool:
        """Whether the weights are random, as those of a model that is made."""
        return self.architecture is not None

    @property
    def hardware(self) -> Hardware:
        """What the model runs on."""
        return "cpu" if self.hub is None else "gpu"

    def is_for(self, environment: str, layout: Layout = "dedicated") -> bool:
        """Whether that environment serves the model, given the hardware.

        `environments` name those that have GPUs to spare for it, which it shares if colocated.
        """
        if layout == "colocated" and self.hub is not None:
            return self.gpus == 1
        return not self.environments or environment in self.environments


@strict
@dataclass(frozen=True, slots=True)
class EngineFlags:
    """Flags of an arm's engines, each in place of that of all engines; None leaves that."""

    max_model_len: Count | None = None
    max_num_seqs: Count | None = None
    kv_cache_mib: Count | None = None
    gpu_memory_utilization: Share | None = None

    @property
    def given(self) -> dict[str, int | float]:
        """The flags that are set, by name."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def _peer_named(name: object) -> object:
    """The peer of that name; anything else is passed on."""
    if not isinstance(name, str):
        return name
    known = load_peers()
    if name not in known:
        raise ValueError(f"no peer, known: {', '.join(known)}")
    return known[name]


@strict
@dataclass(frozen=True, slots=True)
class Arm:
    """A configuration to measure: a `policy` of this project's balancer, a `peer` or a `command`.

    Exactly one of the three is set; in a file `peer` is a name of `bench/peers.yaml`. `options` are
    further options of this project's balancer. With `kvcached` the arm's engines have KVCached
    where there are GPUs, and they have its flags of `engine`. Arms share engines that are alike.
    `kubernetes` is what chooses a replica there: the balancer, or kube-proxy. `connections` says
    whether the load keeps them, which matters where they decide on the replica, as behind
    kube-proxy. `slowed` is the share of its core's time that each replica gets while the arm is
    measured: a known difference.
    """

    name: str
    port: Port
    policy: str | None = None
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    options: tuple[str, ...] = ()
    kvcached: Annotated[bool, Field(strict=True)] = False
    engine: EngineFlags = EngineFlags()
    kubernetes: Kubernetes = "balancer"
    connections: Connections = "kept"
    slowed: Share | None = None
    peer: Annotated[Peer | None, BeforeValidator(_peer_named)] = None


@strict
@dataclass(frozen=True, slots=True)
class EngineEntry:
    """Flags of every engine on CPUs, and its first port in environment `local`; sizes in MiB.

    `trace_mean_tokens` is no flag: requests of a trace, and of workloads for GPUs, are scaled to so
    many tokens on average, prompt and answer together.
    """

    max_model_len: Count = 2048
    max_num_seqs: Count = 16
    kv_cache_mib: Count = 256
    first_port: Port = 8100
    trace_mean_tokens: Count | None = None


@strict
@dataclass(frozen=True, slots=True)
class GpuEngineEntry:
    """Flags of every engine on GPUs.

    `first_port` is the first engine's in environment `docker`.
    `reserve_gib` is no flag: what a replica needs of each GPU besides weights and KV cache.
    """

    max_model_len: Count = 8192
    gpu_memory_utilization: Share = 0.9
    max_num_seqs: Count = 256
    first_port: Port = 8001
    reserve_gib: Gib = 2.0


@strict
@dataclass(frozen=True, slots=True)
class HardwareEntry:
    """The GPUs of an environment: their name, their number, and the memory of each."""

    gpu: str
    gpus: Count
    gpu_memory_gib: Gib


def _with_names(entries: object) -> object:
    """The entries of a mapping, each with its key as its `name`."""
    if not isinstance(entries, dict):
        return entries
    for key, entry in entries.items():
        if isinstance(entry, dict) and "name" in entry:
            raise ValueError(f"{key} has a name already, its key: remove `name`")
    return {
        key: {**entry, "name": key} if isinstance(entry, dict) else entry
        for key, entry in entries.items()
    }


@strict
@dataclass(frozen=True, slots=True)
class Topology:
    """All models and arms by name, GPUs by environment, the engines' flags and their layout.

    In layout `dedicated` each replica has GPUs of its own. In layout `colocated` the first
    replicas of all models share a GPU, the second ones the next, and so on.
    """

    models: Annotated[dict[str, Model], BeforeValidator(_with_names)]
    arms: Annotated[dict[str, Arm], BeforeValidator(_with_names)]
    engine: EngineEntry = field(default_factory=EngineEntry)
    gpu_engine: GpuEngineEntry = field(default_factory=GpuEngineEntry)
    hardware: dict[GpuEnvironment, HardwareEntry] = field(default_factory=dict)
    layout: Layout = "dedicated"

    def models_for(self, hardware: Hardware, environment: str) -> tuple[Model, ...]:
        """All that run on that hardware there, in the order of the file; there may be none."""
        return tuple(
            model
            for model in self.models.values()
            if model.hardware == hardware and model.is_for(environment, self.layout)
        )

    def select_models(
        self, names: Iterable[str], hardware: Hardware, environment: str
    ) -> tuple[Model, ...]:
        """The named models in the order given; if `names` is empty, all that run there.

        Raises UserError with one line for a name that is not known or needs other hardware or
        another environment, and where none is left.
        """
        fit = tuple(model.name for model in self.models_for(hardware, environment))
        wanted = tuple(names) or fit
        if not wanted:
            raise UserError(f"the topology has no model for a {hardware} in {environment}")
        picked = tuple(_pick(self.models, name, "model") for name in wanted)
        for model in picked:
            if model.hardware != hardware:
                raise UserError(
                    f"model {model.name!r} is for a {model.hardware}, here engines run on a "
                    f"{hardware}; for that: {', '.join(fit) or 'none'}"
                )
            if not model.is_for(environment, self.layout):
                if self.layout == "colocated":
                    raise UserError(
                        f"model {model.name!r} needs {model.gpus} GPUs for each replica, which "
                        f"layout colocated cannot share; for that: {', '.join(fit) or 'none'}"
                    )
                raise UserError(
                    f"model {model.name!r} is for {', '.join(model.environments)}, here engines "
                    f"run in {environment}; for that: {', '.join(fit) or 'none'}"
                )
        return picked

    def arm(self, name: str) -> Arm:
        """The arm of that name, which may be a peer's. Raises UserError with one line."""
        return self.arms.get(name) or _pick({**_peer_arms(), **self.arms}, name, "arm")

    def engine_on(self, hardware: Hardware) -> EngineEntry | GpuEngineEntry:
        """The flags of all engines on that hardware."""
        return self.engine if hardware == "cpu" else self.gpu_engine

    def own_flags(self, arm: Arm, hardware: Hardware) -> Arm:
        """The arm without flags that all engines on that hardware have, too."""
        usual = self.engine_on(hardware)
        same = {
            name: None
            for name, value in arm.engine.given.items()
            if getattr(usual, name, None) == value
        }
        return replace(arm, engine=replace(arm.engine, **same))

    def for_arm(self, arm: Arm) -> Topology:
        """The same with the flags of the arm's engines among those of all."""
        flags = arm.engine.given
        return replace(
            self,
            engine=_with_flags(self.engine, flags),
            gpu_engine=_with_flags(self.gpu_engine, flags),
        )


def load_topology(path: Path = DEFAULT_TOPOLOGY, layout: Layout | None = None) -> Topology:
    """Read a topology file; `layout` replaces the file's.

    Raises UserError with one line for any mistake in it.
    """
    topology = load_yaml(path, Topology)
    if not topology.models:
        raise UserError(f"{path}: models: none are listed, list at least one")
    for model in topology.models.values():
        if mistake := _mistake_in_model(model):
            raise UserError(f"{path}: models.{model.name}: {mistake}")
    for arm in topology.arms.values():
        if mistake := _mistake_in_arm(arm):
            raise UserError(f"{path}: arms.{arm.name}: {mistake}")
    models = {
        name: model if model.hub is None else replace(model, gpus=model.gpus or 1)
        for name, model in topology.models.items()
    }
    return replace(topology, models=models, layout=layout or topology.layout)


def _mistake_in_model(model: Model) -> str | None:
    if sum(one is not None for one in (model.architecture, model.path, model.hub)) != 1:
        return "give either architecture or path or hub"
    if model.gpus and model.hub is None:
        return "gpus belong to a model of the hub, all others run on CPUs"
    if model.weights_gib is not None and model.hub is None:
        return "weights_gib belongs to a model of the hub, others are not sized for GPUs"
    if model.kv is not None and model.hub is None:
        return "kv belongs to a model of the hub, others are not sized for GPUs"
    if model.environments and model.hub is None:
        return "environments belong to a model of the hub, others run wherever engines have CPUs"
    return None


def _mistake_in_arm(arm: Arm) -> str | None:
    if sum(one is not None for one in (arm.policy, arm.peer, arm.command)) != 1:
        return "give either policy or peer or command"
    if arm.options and arm.policy is None:
        return "options belong to a policy, not to others' balancers"
    return None


def _peer_arms() -> dict[str, Arm]:
    """An arm for each peer, on a port of its own where that is free."""
    found = load_peers().items()
    return {
        name: Arm(name, PEER_PORT + place, peer=peer) for place, (name, peer) in enumerate(found)
    }


def _with_flags(entry: Entry, flags: Mapping[str, int | float]) -> Entry:
    """The engine's entry with those of the flags that it has."""
    changed: Any = entry
    own = {name: value for name, value in flags.items() if hasattr(entry, name)}
    made: Entry = replace(changed, **own)
    return made


def _pick(known: Mapping[str, Entry], name: str, kind: str) -> Entry:
    try:
        return known[name]
    except KeyError:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"unknown {kind} {name!r}; known: {', '.join(known)}{hint}") from None
