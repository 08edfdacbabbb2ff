"""Installs the engine virtual environment once, whole or not at all."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.environments.local.host import check_command
from bench.errors import UserError
from bench.processes import pip
from bench.processes.guarded import Guarded, last_lines, reason_in
from bench.processes.lock import exclusive
from bench.processes.venv import Venv
from bench.progress import Progress, Step

REQUIREMENTS = Path(__file__).with_name("requirements-engine.txt")
NEEDED_BYTES = 4 * 10**9  # 2.2 GB installed, the rest while unpacking
# vLLM's kernels are linked to it. Without it vLLM only warns, and dies when it needs them.
NUMA_LIBRARY = "libnuma.so.1"
_PIP_NEWS = ("Collecting", "Downloading", "Processing", "Installing", "Successfully")
LOCK_TIMEOUT_S = 900.0


def ensure_engine(cache: Path, progress: Progress) -> Venv:
    """The engine virtual environment under `cache`, installed if it is missing or outdated.

    Raises UserError with one line when this machine cannot have one.
    """
    check_platform(platform.system(), platform.machine(), sys.version_info[:2])
    check_library(NUMA_LIBRARY)
    venv = Venv(cache / "engine-venv", REQUIREMENTS)
    if venv.is_complete():
        return venv
    lock = cache / "engine-venv.lock"
    with exclusive(lock, "the engine's packages", progress, LOCK_TIMEOUT_S):
        if not venv.is_complete():
            check_disk(cache, shutil.disk_usage(cache).free)
            with progress.step("installing the engine (vLLM for CPU, once)") as step:
                _install(venv, cache / "logs" / "install.log", step)
    return venv


def check_platform(system: str, machine: str, python: Sequence[int]) -> None:
    """Raise UserError where the engine's packages do not exist."""
    if (system, machine) != ("Linux", "x86_64"):
        raise UserError(
            f"environment local runs vLLM on Linux x86_64, this is {system} {machine}; "
            "use another environment"
        )
    if tuple(python) < (3, 11):
        seen = ".".join(map(str, python))
        raise UserError(f"environment local needs Python 3.11 or newer, this is {seen}")


def check_library(name: str) -> None:
    """Raise UserError where the library `name`, which no package brings, cannot be loaded."""
    try:
        ctypes.CDLL(name)
    except OSError as error:
        raise UserError(
            f"vLLM for CPU needs a system library: {error}; install it:"
            " apt install libnuma1 on Debian and Ubuntu, numactl-libs on Fedora"
        ) from None


def check_disk(folder: Path, free_bytes: int) -> None:
    """Raise UserError where the packages would not fit."""
    if free_bytes < NEEDED_BYTES:
        raise UserError(
            f"the engine's packages need {NEEDED_BYTES / 1e9:.0f} GB in {folder}, "
            f"{free_bytes / 1e9:.1f} GB are free; make room"
        )


def _install(venv: Venv, log: Path, step: Step) -> None:
    log.unlink(missing_ok=True)
    step.update("making the virtual environment")
    shutil.rmtree(venv.folder, ignore_errors=True)
    said = _run([sys.executable, "-m", "venv", str(venv.folder)], log, step)
    if said is not None:
        raise UserError(f"cannot make a virtual environment: {reason_in(said)}; see {log}")

    pip.install(
        lambda arguments: _run([str(venv.python), *arguments], log, step),
        venv.requirements,
        f"torch=={venv.version('torch')}",
        log,
    )
    step.update("importing vLLM for the first time")
    said = _run(check_command(venv.python), log, step)
    if said is not None:
        raise UserError(f"the installed engine does not work: {reason_in(said)}; see {log}")
    venv.mark_complete()


def _run(command: Sequence[str], log: Path, step: Step) -> str | None:
    """Run a command to its end; None, or what it said if it failed."""
    begin = log.stat().st_size if log.exists() else 0
    process = Guarded(command, log=log)
    try:
        while (code := process.wait(1.0)) is None:
            step.update(_doing(log))
    finally:
        process.terminate()
    if code == 0:
        return None
    # The log has what earlier commands said as well.
    return log.read_bytes()[begin:].decode("utf-8", errors="replace")


def _doing(log: Path) -> str:
    lines = last_lines(log, 20).splitlines()
    return next((line[:80] for line in reversed(lines) if line.startswith(_PIP_NEWS)), "")
