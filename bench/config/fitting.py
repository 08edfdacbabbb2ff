"""Whether engines can be had: models that fit the declared GPUs, flags that engines have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace

from bench.config.memory import Footprint, Gpu, equal_share, room_text, rooms
from bench.config.topology import (
    Arm,
    EngineEntry,
    EngineFlags,
    GpuEngineEntry,
    Hardware,
    HardwareEntry,
    Layout,
    Model,
    Topology,
)
from bench.errors import UserError

# Each has a port of its own in the container of a GPU, and network policies (k8s/) open so many.
MOST_COLOCATED = 16


def require_fit(topology: Topology, models: Sequence[Model], environment: str) -> None:
    """Raise UserError with the arithmetic if models of GPUs do not fit the environment's.

    Models of CPUs take no GPU, and what is not in the file (`hardware`, `weights_gib`, `kv`) is not
    checked. The bound on memory is a low one: of what is not refused, an engine may still say
    that its KV cache is too small.
    """
    if misfit := misfit_of(topology, models, environment):
        raise UserError(misfit)


def misfit_of(topology: Topology, models: Sequence[Model], environment: str) -> str:
    """Like `require_fit`, as a line; empty if nothing is wrong."""
    colocated = topology.layout == "colocated"
    if colocated and (reason := _unlike(models)):
        return f"layout colocated {reason}"
    hardware = declared_gpus(topology, environment)
    if hardware is None:
        return ""
    gpu, engine = gpu_of(hardware, topology.gpu_engine), topology.gpu_engine
    misfits = [
        *(_too_large_together if colocated else _too_large)(models, hardware, gpu, engine),
        *_too_many(models, hardware, topology.layout),
    ]
    return f"environment {environment}: {'; '.join(misfits)}" if misfits else ""


def room_texts(topology: Topology, models: Sequence[Model], environment: str) -> tuple[str, ...]:
    """For each of colocated models, where KVCached may give it a gain and where not.

    Requests are counted that are as long as the engines take. Empty in another layout, and where it
    is not known.
    """
    hardware, engine = declared_gpus(topology, environment), topology.gpu_engine
    if topology.layout != "colocated" or hardware is None:
        return ()
    if any(model.kv is None or model.weights_gib is None for model in models):
        return ()
    found = rooms(gpu_of(hardware, engine), [Footprint.of(model) for model in models])
    return tuple(
        room_text(model.name, room, engine.max_model_len, engine.max_num_seqs)
        for model, room in zip(models, found, strict=True)
    )


def colocated_models(topology: Topology, environment: str) -> tuple[Model, ...]:
    """All models that share GPUs in layout colocated there; none where they do not fit."""
    colocated = replace(topology, layout="colocated")
    models = colocated.models_for("gpu", environment)
    if misfit_of(colocated, models, environment):
        return ()
    return models


def gpus_needed(models: Sequence[Model], layout: Layout) -> int:
    """How many GPUs the engines of `models` take."""
    if layout == "colocated":
        return max(model.replicas for model in models)
    return sum(model.replicas * model.gpus for model in models)


def declared_gpus(topology: Topology, environment: str) -> HardwareEntry | None:
    """The GPUs of an environment; None where the file does not say."""
    found = (entry for name, entry in topology.hardware.items() if name == environment)
    return next(found, None)


def gpu_of(hardware: HardwareEntry, engine: GpuEngineEntry) -> Gpu:
    """One of an environment's GPUs, as engines with such flags use it."""
    return Gpu(hardware.gpu_memory_gib, engine.gpu_memory_utilization, engine.reserve_gib)


def _unlike(models: Sequence[Model]) -> str:
    """Why models cannot be colocated: they are to be several on GPUs, with the same replicas."""
    if models and models[0].hardware == "cpu":
        return (
            "needs GPUs, since it is about engines that share a GPU's memory, and here engines run "
            "on CPUs; use --layout dedicated"
        )
    if len(models) < 2:
        seen = f"{models[0].name} alone" if models else "none"
        return (
            f"is for several models with gpus: 1, seen {seen}; give more with --models, or use "
            "--layout dedicated"
        )
    if len(models) > MOST_COLOCATED:
        return f"has at most {MOST_COLOCATED} models, seen {len(models)}; give fewer with --models"
    if len({model.replicas for model in models}) > 1:
        counts = ", ".join(f"{model.name} {model.replicas}" for model in models)
        return (
            "has a replica of every model on each GPU, so all need the same number of replicas; "
            f"seen {counts}"
        )
    return ""


def require_flags(
    arms: Sequence[Arm], environment: str, hardware: Hardware, layout: Layout
) -> None:
    """Raise UserError if an arm has flags that its engines cannot be given."""
    for arm in arms:
        if misfit := flags_misfit_of(arm, environment, hardware, layout):
            raise UserError(misfit)


def flags_misfit_of(arm: Arm, environment: str, hardware: Hardware, layout: Layout) -> str:
    """Like `require_flags`, of one arm, as a line; empty if nothing is wrong."""
    given = arm.engine.given
    if given and environment == "external":
        return (
            f"arm {arm.name} has engine flags ({', '.join(given)}), and engines of --env "
            "external run already: start them so, and give them as endpoints of their own"
        )
    if unknown := [name for name in given if name not in flags_on(hardware)]:
        return (
            f"arm {arm.name} has engine flag {unknown[0]}, which engines on a {hardware} do "
            f"not have; they have {', '.join(flags_on(hardware))}"
        )
    if given and (environment, layout) == ("k8s", "colocated"):
        return (
            f"arm {arm.name} has engine flags ({', '.join(given)}), and with --env k8s and "
            "--layout colocated all arms have those of gpu_engine; use --layout dedicated"
        )
    if environment == "k8s" and arm.kvcached and arm.engine.gpu_memory_utilization is not None:
        return (
            f"arm {arm.name} has gpu_memory_utilization of its own, which on Kubernetes all "
            "engines with KVCached have in common: set it under gpu_engine"
        )
    return ""


def flags_on(hardware: Hardware) -> tuple[str, ...]:
    """The names of the flags that an arm's engines may have on that hardware."""
    entry = EngineEntry if hardware == "cpu" else GpuEngineEntry
    known = {one.name for one in fields(entry)}
    return tuple(one.name for one in fields(EngineFlags) if one.name in known)


def _too_large(
    models: Sequence[Model], hardware: HardwareEntry, gpu: Gpu, engine: GpuEngineEntry
) -> Iterator[str]:
    """A text for each model whose replica needs more memory than its GPUs have."""
    usable = gpu.memory_gib * gpu.utilization
    for model in models:
        if model.weights_gib is None:
            continue
        footprint, each = Footprint.of(model), model.weights_gib / model.gpus
        left, needed = usable - each, footprint.need_gib(gpu, engine.max_model_len) - each
        if left >= needed:
            continue
        if longest := footprint.tokens_in(left - gpu.reserve_gib):
            remedy = f"give max_model_len up to {longest}, more gpus, or larger GPUs"
        else:
            remedy = _remedy(
                (each + needed - gpu.reserve_gib) * model.gpus, usable - gpu.reserve_gib
            )
        yield (
            f"{model.name} does not fit: {model.weights_gib:.1f} GiB of weights over "
            f"{_gpus(model.gpus)} are {each:.1f} GiB each; {hardware.gpu} has "
            f"{hardware.gpu_memory_gib:g} GiB, of which gpu_memory_utilization "
            f"{engine.gpu_memory_utilization:g} leaves {usable:.1f}, so for activations and KV "
            f"cache {f'{left:.1f} GiB are' if left > 0 else 'nothing is'} left, and "
            f"{needed:.3g} are needed; {remedy}"
        )


def _remedy(sharded_gib: float, room_gib: float) -> str:
    """What to do about weights and KV cache of which each GPU has room for `room_gib`."""
    if room_gib <= 0:
        return "give larger GPUs: on these no share of a model fits"
    least = math.ceil(sharded_gib / room_gib)
    # The heads of a model are shared out evenly, mostly among a power of two.
    parallel = 2 ** math.ceil(math.log2(least))
    return f"it needs {_gpus(least)}: give gpus: {parallel} (tensor parallel) or larger GPUs"


def _too_large_together(
    models: Sequence[Model], hardware: HardwareEntry, gpu: Gpu, engine: GpuEngineEntry
) -> Iterator[str]:
    """A text if models do not fit one GPU in a static split; it says the most that does."""
    known = {one.name: Footprint.of(one) for one in models if one.weights_gib is not None}
    needs = {name: one.need_gib(gpu, engine.max_model_len) for name, one in known.items()}
    share = equal_share(gpu.utilization, len(models))
    usable = share * gpu.memory_gib
    name = max(needs, key=lambda name: needs[name], default="")
    if not name or needs[name] <= usable:
        return
    kv_gib = needs[name] - known[name].need_gib(gpu, 0)
    longest = [one.tokens_in(usable - one.need_gib(gpu, 0)) for one in known.values()]
    yield (
        f"layout colocated does not fit: of {gpu.memory_gib:g} GiB of one {hardware.gpu} "
        f"gpu_memory_utilization {gpu.utilization:g} gives each of {len(models)} engines "
        f"{share:g}, {usable:.1f} GiB; {name} needs {needs[name]:.1f} "
        f"({known[name].weights_gib:.1f} for weights, {gpu.reserve_gib:g} for activations, "
        f"{kv_gib:.1f} for {engine.max_model_len} tokens of KV cache); "
        f"{_most_together(needs, gpu, min(longest))}"
    )


def _most_together(needs: Mapping[str, float], gpu: Gpu, longest: int) -> str:
    """What to do about models that do not fit together, by what each needs in GiB.

    `longest` are the tokens for which each has room; 0 if one has none.
    """
    if longest:
        return f"all fit with max_model_len up to {longest}"
    smallest = sorted(needs, key=lambda name: needs[name])
    for count in range(len(needs) - 1, 1, -1):
        if needs[smallest[count - 1]] <= equal_share(gpu.utilization, count) * gpu.memory_gib:
            fit = ",".join(name for name in needs if name in smallest[:count])
            return f"{count} of these fit: --models {fit}"
    return "no two of these fit: give larger GPUs, or use --layout dedicated"


def _too_many(models: Sequence[Model], hardware: HardwareEntry, layout: Layout) -> Iterator[str]:
    """A text if all replicas together need more GPUs than there are."""
    needed = gpus_needed(models, layout)
    if needed > hardware.gpus:
        counts = " + ".join(
            f"{model.name} {model.replicas} x {model.gpus}" for model in models if model.gpus
        )
        if layout == "colocated":
            counts = f"{needed}, each with all models"
        yield (
            f"{_gpus(needed)} are needed (replicas x gpus: {counts}), {hardware.gpus} "
            f"({hardware.gpu}) are there; give fewer models or replicas"
        )


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"
