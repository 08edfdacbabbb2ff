"""Virtual environments for programs with pins of their own: installed once, whole or not at all."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.processes.guarded import error_in, last_lines, run_bounded
from bench.processes.lock import exclusive
from bench.processes.pip_errors import advice_of, causes, text_of
from bench.progress import Progress, Step

PIP_INSTALL = (
    *("-m", "pip", "install"),
    *("--no-deps", "--no-input", "--progress-bar=off", "--disable-pip-version-check"),
)
_PIP_NEWS = ("Collecting", "Downloading", "Processing", "Installing", "Successfully")
_LOCK_TIMEOUT_S = 900.0

Run = Callable[[Sequence[str]], "str | None"]
"""Runs the environment's Python with arguments; None, or all that it printed if it failed."""


@dataclass(frozen=True, slots=True)
class Venv:
    """A virtual environment in `folder` that holds exactly what `requirements` pins."""

    folder: Path
    requirements: Path

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def temporary(self) -> Path:
        """Where files lie while it is being installed."""
        return self.folder / "tmp"

    @property
    def fingerprint(self) -> str:
        """What a complete installation is recognised by: requirements and interpreter."""
        digest = hashlib.sha256(self.requirements.read_bytes())
        digest.update(platform.python_version().encode())
        return digest.hexdigest()[:16]

    def is_complete(self) -> bool:
        """Whether what is pinned now has been installed to the end, and its Python is there.

        One that a CI server has restored from a cache may name a Python that is not.
        """
        try:
            stamp = self._stamp.read_text(encoding="utf-8")
            return stamp == self.fingerprint and self.python.exists()
        except FileNotFoundError:
            return False

    def mark_complete(self) -> None:
        """Note that all is installed."""
        self._stamp.write_text(self.fingerprint, encoding="utf-8")

    def version(self, package: str) -> str:
        """The pinned version of a package."""
        pin = rf"^{re.escape(package)}==(\S+)$"
        found = re.search(pin, self.requirements.read_text(encoding="utf-8"), re.MULTILINE)
        assert found is not None, f"{package} is not pinned in {self.requirements}"
        return found[1]

    @property
    def _stamp(self) -> Path:
        return self.folder / ".complete"


@dataclass(frozen=True, slots=True)
class Installation:
    """An empty virtual environment that is being filled; `name` is for the user."""

    name: str
    venv: Venv
    log: Path
    step: Step

    def run(self, arguments: Sequence[str], python: Path | None = None) -> str | None:
        """Run the environment's Python, or `python`; see `Run`."""
        begin = self.log.stat().st_size if self.log.exists() else 0

        def show_news() -> None:
            lines = last_lines(self.log, 20).splitlines()
            news = (line[:80] for line in reversed(lines) if line.startswith(_PIP_NEWS))
            self.step.update(next(news, ""))

        # What a pip that was ended leaves there, the next installation removes.
        self.venv.temporary.mkdir(parents=True, exist_ok=True)
        setting = f"TMPDIR={self.venv.temporary}"
        command = ["env", setting, str(python or self.venv.python), *arguments]
        # Relative paths in pip's configuration count from the current folder.
        folder = Path.cwd()
        if not run_bounded("pip", command, log=self.log, folder=folder, each_second=show_news):
            return None
        # The log has what earlier commands printed as well.
        return self.log.read_bytes()[begin:].decode("utf-8", errors="replace")


def install_requirements(installation: Installation) -> None:
    """Install what is pinned. Raises UserError with one line if pip fails."""
    requirements = str(installation.venv.requirements)
    said = installation.run([*PIP_INSTALL, "--requirement", requirements])
    if said is not None:
        raise UserError(pip_failure(installation.name, said, installation.log))


def ensure_venv(
    key: str,
    requirements: Path,
    cache: Path,
    progress: Progress,
    *,
    name: str = "",
    needed_bytes: int = 0,
    install: Callable[[Installation], None] = install_requirements,
) -> Venv:
    """The virtual environment `key` under `cache`, installed if it is missing or outdated.

    `name` is for the user; empty: `key`. `needed_bytes` of the disk must be free. Raises
    UserError with one line when it cannot be installed.
    """
    name = name or key
    venv = Venv(cache / f"{key}-venv", requirements)
    if venv.is_complete():
        return venv
    lock, log = cache / f"{key}-venv.lock", cache / "logs" / f"install-{key}.log"
    with exclusive(lock, f"the packages of {name}", progress, _LOCK_TIMEOUT_S):
        if venv.is_complete():  # another process has just installed it
            return venv
        check_disk(name, cache, needed_bytes, shutil.disk_usage(cache).free)
        with progress.step(f"installing {name}, once") as step:
            log.unlink(missing_ok=True)
            shutil.rmtree(venv.folder, ignore_errors=True)
            installation = Installation(name, venv, log, step)
            said = installation.run(["-m", "venv", str(venv.folder)], Path(sys.executable))
            if said is not None:
                raise UserError(f"cannot make a virtual environment: {error_in(said)}; see {log}")
            install(installation)
            shutil.rmtree(venv.temporary, ignore_errors=True)
            venv.mark_complete()
    return venv


def check_disk(name: str, folder: Path, needed_bytes: int, free_bytes: int) -> None:
    """Raise UserError where the packages of `name` would not fit."""
    if free_bytes < needed_bytes:
        raise UserError(
            f"the packages of {name} need {needed_bytes / 1e9:.0f} GB in {folder}, "
            f"{free_bytes / 1e9:.1f} GB are free; make room"
        )


def pip_failure(name: str, said: str, log: Path) -> str:
    """One line for the user about a pip that failed, from all that it printed."""
    found = causes(said)
    advice = "; ".join(advice_of(found)) or "check pip's index (`pip config list`)"
    return f"cannot install {name}: pip: {text_of(found)}; {advice}; see {log}"
