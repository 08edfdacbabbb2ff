"""Installing the engine's packages: torch from whichever source has it, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import UserError
from bench.processes.pip_errors import Cause, causes

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"

# Nothing is compiled to byte code here: the first import does that for the few modules
# that are used, which is less than a tenth of them.
_INSTALL = (
    "-m",
    "pip",
    "install",
    "--no-deps",
    "--no-compile",
    "--no-input",
    "--progress-bar=off",
    "--disable-pip-version-check",
)
# An index that cannot be reached should say so soon.
_TORCH_INDEX = ("--index-url", TORCH_INDEX, "--timeout", "15", "--retries", "1")

Run = Callable[[Sequence[str]], "str | None"]
"""Runs the environment's Python with arguments; returns None, or all it said if it failed."""


def install(run: Run, requirements: Path, torch: str, log: Path) -> None:
    """Install `torch` (a pin), then all of `requirements`. Raises UserError with one line.

    PyPI has no CPU build of torch. Where pip's configuration knows a place that has one
    (an index, a folder of wheels), PyTorch's own index is often out of reach; so pip is
    asked as it is configured first, and with that index second. `log` is where `run`
    keeps what pip says.
    """
    as_configured = run([*_INSTALL, torch])
    if as_configured is not None:
        with_index = run([*_INSTALL, *_TORCH_INDEX, torch])
        if with_index is not None:
            raise UserError(_no_torch(torch, causes(as_configured), causes(with_index), log))
    said = run([*_INSTALL, "--requirement", str(requirements)])
    if said is not None:
        found = causes(said)
        help_ = "; ".join(_advice(found)) or "check pip's index (`pip config list`)"
        raise UserError(f"cannot install the engine: pip: {_seen(found)}; {help_}; see {log}")


def _no_torch(torch: str, configured: list[Cause], index: list[Cause], log: Path) -> str:
    first = [cause for cause in configured if cause not in index]
    second = [cause for cause in index if cause not in configured]
    both = [cause for cause in configured if cause in index]
    told = (
        ("as configured", first),
        (f"with {TORCH_INDEX}", second),
        ("both times" if second else f"both as configured and with {TORCH_INDEX}", both),
    )
    seen = "; ".join(f"{when}: {_seen(found)}" for when, found in told if found)
    help_ = "; ".join(_advice([*first, *second, *both, _WHEEL]))
    return f"cannot install {torch}: pip {seen}; {help_}; see {log}"


_WHEEL = Cause("", "or put the wheel in a folder and name that in PIP_FIND_LINKS")


def _seen(found: Sequence[Cause]) -> str:
    return ", and ".join(cause.seen for cause in found)


def _advice(found: Sequence[Cause]) -> list[str]:
    """What helps, each advice once."""
    return list(dict.fromkeys(cause.advice for cause in found if cause.advice))
