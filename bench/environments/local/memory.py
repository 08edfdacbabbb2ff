"""Whether the engines fit into memory, judged before any is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.environments.local.planning import PlannedReplica
from bench.errors import UserError

GIB = 1024**3
# Measured as proportional set size, rounded up: the host while it imports, and per
# replica its server and engine without KV cache and weights.
HOST_BYTES = 0.6 * GIB
REPLICA_BYTES = 0.4 * GIB


def check_memory(replicas: Sequence[PlannedReplica], available_bytes: float) -> None:
    """Raise UserError, with the numbers, if `replicas` would not fit."""
    needed = HOST_BYTES + sum(REPLICA_BYTES + replica.memory_bytes for replica in replicas)
    if needed > available_bytes:
        raise UserError(
            f"{len(replicas)} replicas need {needed / GIB:.1f} GiB of memory, "
            f"{available_bytes / GIB:.1f} GiB are available; "
            "pick fewer models with --models, or lower replicas or kv_cache_mib in the topology"
        )


def available_memory(control_group: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that can still be had, within the machine and within a container's limit."""
    available = float(psutil.virtual_memory().available)
    try:
        limit = (control_group / "memory.max").read_text().strip()
        used = int((control_group / "memory.current").read_text())
    except OSError:
        return available
    return available if limit == "max" else min(available, float(int(limit) - used))
