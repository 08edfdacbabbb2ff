"""Provenance of a run: the suite's commit, its packages, and how it was called.

JSON values only. The environment adds what the run was measured on.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.config.config import Config

PACKAGES = ("pytest", "uvloop", "httptools", "numpy", "scipy")


def suite_facts(config: Config, root: Path, arguments: tuple[str, ...]) -> dict[str, Any]:
    """What holds for a whole run, in any environment. `root` is the checkout."""
    return {
        "commit": git_commit(root / ".git"),
        "arguments": list(arguments),
        "arms": {role: arm.name for role, arm in config.arms.items()},
        "profile": config.profile.name,
        "seed": config.options.seed,
        "slo_file": config.slos.path.name,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def git_commit(git: Path) -> str | None:
    """The checked-out commit, from git's own files; None where there are none."""
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        if (git / ref).exists():
            return (git / ref).read_text(encoding="utf-8").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)
