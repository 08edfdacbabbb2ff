"""The GPU of this machine: that there is one, that it is empty, and what its engines take of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from bench.analysis.kvcached import GpuMemory
from bench.environments.kvcached.texts import NVIDIA_SMI, read_gpus
from bench.errors import UserError

# The driver itself takes a part of an empty one, up to 0.6 GiB on an H100.
EMPTY_GIB = 1.0
_TIMEOUT_S = 60.0


def empty_card() -> tuple[int, GpuMemory]:
    """The number and the memory of the first GPU that nothing uses.

    Raises UserError, with what was seen, if there is none.
    """
    try:
        text = run_here(NVIDIA_SMI)
    except UserError as error:
        raise UserError(
            f"gpu-check needs an NVIDIA GPU, and none is seen here: {error}; run it on a machine "
            "with one (and its driver), or see what it would do with --dry-run GIB"
        ) from None
    return choose_card(read_gpus(text))


def choose_card(cards: Sequence[GpuMemory]) -> tuple[int, GpuMemory]:
    """The first of the GPUs that nothing uses, and its number. Raises UserError if there is none.

    KVCached takes what is free of a GPU: whatever else is on it would count.
    """
    for number, card in enumerate(cards):
        if card.used_gib <= EMPTY_GIB:
            return number, card
    seen = ", ".join(
        f"GPU {number} ({card.name}) {card.used_gib:.1f} of {card.total_gib:.1f} GiB"
        for number, card in enumerate(cards)
    )
    raise UserError(
        f"gpu-check needs a GPU of its own, and all are in use: {seen}; end what runs there "
        "(nvidia-smi lists it)"
    )


def selected(number: int) -> tuple[str, ...]:
    """Variables that let an engine see the GPU with that number alone.

    CUDA has the fastest GPU first, unless it is told to count as nvidia-smi does.
    """
    return "CUDA_DEVICE_ORDER=PCI_BUS_ID", f"CUDA_VISIBLE_DEVICES={number}"


def run_here(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """What a command on this machine writes. Raises UserError if it does not succeed."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
            env={**os.environ, **(variables or {})},
        )
    except OSError as error:
        raise UserError(f"{command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} had not ended after {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:200]
        raise UserError(f"{command[0]} ended with {done.returncode}: {said}")
    return done.stdout
