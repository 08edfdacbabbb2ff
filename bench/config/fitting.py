"""Whether engines can be had: models that fit the declared GPUs, flags that engines have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

from bench.config.topology import (
    Arm,
    EngineEntry,
    EngineFlags,
    GpuEngineEntry,
    Hardware,
    HardwareEntry,
    Model,
    Topology,
)
from bench.errors import UserError


def require_fit(topology: Topology, models: Sequence[Model], environment: str) -> None:
    """Raise UserError with the arithmetic if models of GPUs do not fit the environment's.

    Models of CPUs take no GPU, and what is not in the file (`hardware`, `weights_gib`) is not
    checked. The bound on memory is a low one: of what is not refused, an engine may still say
    that its KV cache is too small.
    """
    found = (entry for name, entry in topology.hardware.items() if name == environment)
    hardware = next(found, None)
    if hardware is None:
        return
    misfits = [
        *_too_large(models, hardware, topology.gpu_engine),
        *_too_many(models, hardware),
    ]
    if misfits:
        raise UserError(f"environment {environment}: {'; '.join(misfits)}")


def require_flags(arms: Sequence[Arm], environment: str, hardware: Hardware) -> None:
    """Raise UserError if an arm has flags that its engines cannot be given."""
    for arm in arms:
        given = arm.engine.given
        if given and environment == "external":
            raise UserError(
                f"arm {arm.name} has engine flags ({', '.join(given)}), and engines of --env "
                "external run already: start them so, and give them as endpoints of their own"
            )
        if unknown := [name for name in given if name not in flags_on(hardware)]:
            raise UserError(
                f"arm {arm.name} has engine flag {unknown[0]}, which engines on a {hardware} do "
                f"not have; they have {', '.join(flags_on(hardware))}"
            )


def flags_on(hardware: Hardware) -> tuple[str, ...]:
    """The names of the flags that an arm's engines may have on that hardware."""
    entry = EngineEntry if hardware == "cpu" else GpuEngineEntry
    known = {one.name for one in fields(entry)}
    return tuple(one.name for one in fields(EngineFlags) if one.name in known)


def _too_large(
    models: Iterable[Model], hardware: HardwareEntry, engine: GpuEngineEntry
) -> Iterator[str]:
    """A text for each model whose replica needs more memory than its GPUs have."""
    usable = hardware.gpu_memory_gib * engine.gpu_memory_utilization
    for model in models:
        if model.weights_gib is None:
            continue
        each = model.weights_gib / model.gpus
        left = usable - each
        if left >= engine.reserve_gib:
            continue
        yield (
            f"{model.name} does not fit: {model.weights_gib:.1f} GiB of weights over "
            f"{_gpus(model.gpus)} are {each:.1f} GiB each; {hardware.gpu} has "
            f"{hardware.gpu_memory_gib:g} GiB, of which gpu_memory_utilization "
            f"{engine.gpu_memory_utilization:g} leaves {usable:.1f}, so for activations and KV "
            f"cache {f'{left:.1f} GiB are' if left > 0 else 'nothing is'} left, and "
            f"{engine.reserve_gib:g} are needed; "
            f"{_remedy(model.weights_gib, usable - engine.reserve_gib)}"
        )


def _remedy(weights_gib: float, room_gib: float) -> str:
    """What to do about weights of which each GPU has room for `room_gib`."""
    if room_gib <= 0:
        return "give larger GPUs: on these no share of a model fits"
    least = math.ceil(weights_gib / room_gib)
    # The heads of a model are shared out evenly, mostly among a power of two.
    parallel = 2 ** math.ceil(math.log2(least))
    return f"it needs {_gpus(least)}: give gpus: {parallel} (tensor parallel) or larger GPUs"


def _too_many(models: Sequence[Model], hardware: HardwareEntry) -> Iterator[str]:
    """A text if all replicas together need more GPUs than there are."""
    needed = sum(model.replicas * model.gpus for model in models)
    if needed > hardware.gpus:
        counts = " + ".join(
            f"{model.name} {model.replicas} x {model.gpus}" for model in models if model.gpus
        )
        yield (
            f"{_gpus(needed)} are needed (replicas x gpus: {counts}), {hardware.gpus} "
            f"({hardware.gpu}) are there; give fewer models or replicas"
        )


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"
