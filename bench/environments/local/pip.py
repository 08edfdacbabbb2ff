"""Installing the engine's packages: torch from whichever source has it, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import UserError

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
"""Runs the environment's Python with arguments; returns None, or why it failed."""


def install(run: Run, requirements: Path, torch: str) -> None:
    """Install `torch` (a pin), then all of `requirements`. Raises UserError with one line.

    PyPI has no CPU build of torch. Where pip's configuration knows a place that has one
    (an index, a folder of wheels), PyTorch's own index is often out of reach; so pip is
    asked as it is configured first, and with that index second.
    """
    if (as_configured := run([*_INSTALL, torch])) and (
        from_index := run([*_INSTALL, *_TORCH_INDEX, torch])
    ):
        raise UserError(
            f"cannot install {torch}: pip as configured says {as_configured!r}, "
            f"{TORCH_INDEX} says {from_index!r}; make that index reachable, or put the "
            "wheel in a folder and name it in PIP_FIND_LINKS"
        )
    if failure := run([*_INSTALL, "--requirement", str(requirements)]):
        raise UserError(f"cannot install the engine: pip says {failure!r}; check pip's index")
