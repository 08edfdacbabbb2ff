"""What tests of several packages need."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest

from bench.cli.pytest_run import shown
from bench.processes.machine import hold_machine
from bench.progress import make_progress

# A busy machine says nothing about a property.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture
def ctrl_c_works() -> Iterator[None]:
    """Python leaves SIGINT alone where it was started in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB: a file system in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted: run the tests as root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[None]:
    """This machine, for tests that start engines: they wait for runs that measure on it."""
    with ExitStack() as held:
        with shown(request.config):
            what, progress = f"tests of {request.path.name}", make_progress(sys.__stderr__)
            held.enter_context(hold_machine(what, progress, math.inf))
        yield
