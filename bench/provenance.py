"""Where a number comes from: versions, machine, commit. JSON values only."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil


def suite_facts(root: Path, command: tuple[str, ...]) -> dict[str, Any]:
    """Facts that hold for a whole run, whatever the environment."""
    return {
        "suite_commit": git_commit(root),
        "command": list(command),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("pytest", "uvloop", "numpy", "scipy")},
        "machine": {
            "cpu": cpu_name(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "kernel": platform.release(),
        },
    }


def git_commit(root: Path) -> str | None:
    """The checked-out commit, read from the files of git; None outside a checkout."""
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        loose = git / ref
        if loose.exists():
            return loose.read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)


def cpu_name() -> str:
    """The processor's name as the kernel reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
