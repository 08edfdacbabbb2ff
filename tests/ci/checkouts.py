"""A clean checkout in which the gate runs; what needs a network in it is replaced."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
# In place of the suite's virtual environment. Allure would be installed with npm.
PYTHON = """#!/bin/sh
if [ "$*" = "-m reports generate --output results/gate/allure" ]; then
  [ -z "$NO_ALLURE" ] || exit 1
  mkdir -p results/gate/allure && echo report > results/gate/allure/index.html
else
  exec {python} "$@"
fi
"""
BETTER, WORSE, UNDECIDED = "0.3,0.3,0.31,0.32", "2.0,2.1,2.0,1.9", "0.7,1.1,0.8,0.9"


class Checkout:
    """The repository in a folder of its own, and an empty home."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.home = folder / "home"
        self.programs = folder / "programs"
        for made in (self.root, self.home, self.programs):
            made.mkdir()
        shutil.copytree(ROOT / ".ci", self.root / ".ci")
        for name in ("bench", "lb", "reports", "tests"):
            (self.root / name).symlink_to(ROOT / name)
        for name in ("conftest.py", "pyproject.toml", "pytest.ini", "Makefile"):
            (self.root / name).symlink_to(ROOT / name)
        shutil.copyfile(ROOT / "requirements.txt", self.root / "requirements.txt")
        self.program(self.root / ".venv/bin/python", PYTHON.replace("{python}", sys.executable))
        plugin = (
            f"#!/bin/sh\nexec {sys.executable} -m pytest -p tests.ci.measured -p no:cacheprovider"
        )
        self.program(self.root / ".venv/bin/pytest", f'{plugin} "$@"\n')
        (self.root / ".venv/.stamp").touch()

    @property
    def shown(self) -> Path:
        """The folder with what a server shows."""
        return self.root / "results/gate"

    def program(self, path: Path, text: str) -> None:
        """A program that can be run."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def run(
        self, *command: str, measured: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with an environment that has nothing of the user's."""
        path = f"{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        clean: Mapping[str, str] = {"PATH": path, "HOME": str(self.home), "MEASURED": measured}
        return subprocess.run(
            command,
            cwd=self.home,
            env={**clean, **variables},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def gate(
        self, *arguments: str, measured: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the gate for one scenario and model."""
        chosen = ("-k", "heavy_tail and tiny-llama", "--models", "tiny-llama")
        gate = str(self.root / ".ci/gate.sh")
        return self.run(gate, *chosen, *arguments, measured=measured, **variables)
