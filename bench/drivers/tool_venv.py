"""Installs a tool's virtual environment once, whole or not at all."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from bench.errors import UserError
from bench.processes.guarded import Guarded, last_lines
from bench.processes.lock import exclusive
from bench.processes.venv import Venv
from bench.progress import Progress, Step

_INSTALL = ("-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check")
_LOCK_TIMEOUT_S = 900.0


def ensure_tool(name: str, requirements: Path, cache: Path, progress: Progress) -> Venv:
    """A virtual environment under `cache` with what `requirements` pins.

    A tool has one of its own, since it pins packages that the suite has in other versions.
    Raises UserError with one line when it cannot be installed.
    """
    venv = Venv(cache / f"{name}-venv", requirements)
    if venv.is_complete():
        return venv
    with exclusive(cache / f"{name}-venv.lock", f"{name}'s packages", progress, _LOCK_TIMEOUT_S):
        if not venv.is_complete():
            with progress.step(f"installing {name} (once)") as step:
                _install(name, venv, cache / "logs" / f"install-{name}.log", step)
    return venv


def _install(name: str, venv: Venv, log: Path, step: Step) -> None:
    log.unlink(missing_ok=True)
    shutil.rmtree(venv.folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(venv.folder)],
        [str(venv.python), *_INSTALL, "--requirement", str(venv.requirements)],
    ):
        if _run(command, log, step):
            said = last_lines(log) or "it said nothing"
            raise UserError(f"cannot install {name}: {said[:200]}; see {log}, check pip's index")
    venv.mark_complete()


def _run(command: list[str], log: Path, step: Step) -> int:
    process = Guarded(command, log=log)
    try:
        while (code := process.wait(1.0)) is None:
            step.update(last_lines(log)[:80])
    finally:
        process.terminate()
    return code
