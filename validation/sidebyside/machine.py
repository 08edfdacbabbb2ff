"""What a run was measured on, and whether that had anything else to do."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.environments.local.facts import cpu_name
from bench.provenance import git_commit

_SAMPLE_S = 1.0
_IDLE_PERCENT = 10.0


def machine_facts(root: Path, cores: Mapping[str, Any]) -> dict[str, Any]:
    """Date, suite and machine, as JSON values; `cores` tells which did what."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(root / ".git"),
        "cpu": cpu_name(Path("/proc/cpuinfo")),
        "kernel": platform.release(),
        "cores": dict(cores),
    }


def busy_percent() -> float:
    """How busy all cores are within the next second; nothing of ours may run meanwhile."""
    return psutil.cpu_percent(interval=_SAMPLE_S)


def busy_remarks(before: float, after: float) -> Iterator[str]:
    """What to say when the machine was not idle just before or just after, in percent."""
    if max(before, after) > _IDLE_PERCENT:
        yield (
            f"the machine was not idle ({before:.0f} % busy before, {after:.0f} % after): "
            "latencies and rates suffer; measure again on an idle one"
        )
