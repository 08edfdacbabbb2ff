"""`llm-ab-test`: pytest with the suite's scenarios, options and fixtures, without a checkout."""

from __future__ import annotations

import os
import shlex

import pytest

from bench.cli.scenarios import SCENARIOS
from bench.paths import PACKAGES, ROOT


def run() -> int:
    """Run pytest with what was typed; returns its exit code."""
    given = os.environ.get("PYTEST_ADDOPTS", "")
    # In a variable, since stored runs have what was typed.
    os.environ["PYTEST_ADDOPTS"] = f"{shlex.join(_settings())} {given}"
    return pytest.main()


def _settings() -> list[str]:
    """What to run, and what conftest.py and pytest.ini say in a checkout."""
    return [
        str(SCENARIOS),
        "-ra",
        "--strict-markers",
        "--import-mode=importlib",
        f"--config-file={os.devnull}",  # not that of a project around the packages
        f"--rootdir={PACKAGES}",
        f"--override-ini=cache_dir={ROOT / '.pytest_cache'}",
        "--override-ini=consider_namespace_packages=true",
        "-p",
        "bench.cli.pytest_session",
    ]
