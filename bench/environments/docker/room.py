"""What engines in containers need of this machine, and whether it has that."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence

import psutil

from bench.config.fitting import gpus_needed
from bench.config.topology import Layout, Model
from bench.errors import UserError

GIB = 1024**3
# A tiny model in a container takes 1.1 GiB, measured.
CPU_ENGINE_GIB = 1.25
_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def gpu_names() -> tuple[str, ...]:
    """The GPUs of this machine, as its driver names them; none without one."""
    if shutil.which(_NVIDIA_SMI[0]) is None:
        return ()
    done = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, check=False)
    return tuple(done.stdout.split("\n")[:-1]) if done.returncode == 0 else ()


def groups_that_fit(
    models: Sequence[Model], gpus: int, free_gib: float, layout: Layout = "dedicated"
) -> int:
    """For how many groups with engines of `models` there is room.

    All models are for the same hardware. `free_gib` is memory that engines on CPUs may take.
    Raises UserError, with the arithmetic, if there is not even room for one.
    """
    engines = sum(model.replicas for model in models)
    needed = gpus_needed(models, layout)
    if needed:
        if needed > gpus:
            raise UserError(
                f"{engines} engines need {needed} GPUs ({_sizes(models)}), this machine has "
                f"{gpus}; pick fewer models with --models, or use --hardware cpu"
            )
        return gpus // needed
    needed_gib = engines * CPU_ENGINE_GIB
    if needed_gib > free_gib:
        raise UserError(
            f"{engines} engines need {needed_gib:.1f} GiB of memory, {CPU_ENGINE_GIB} each, "
            f"{free_gib:.1f} GiB are available; pick fewer models with --models"
        )
    return int(free_gib // needed_gib)


def free_gib(running_engines: int) -> float:
    """Memory of this machine that engines on CPUs may take, with that of those that run already."""
    return psutil.virtual_memory().available / GIB + running_engines * CPU_ENGINE_GIB


def _sizes(models: Iterable[Model]) -> str:
    return " + ".join(f"{model.name} {model.replicas} x {model.gpus}" for model in models)
