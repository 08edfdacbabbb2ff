"""A copy of the repository, for tests that change or build it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = "CONTRIBUTING.md"
# A busy machine may take long; nothing here waits for anything but Python.
TIMEOUT_S = 900.0
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


def copy_repository(folder: Path, left_out: Sequence[str] = ()) -> Path:
    """The repository as it is in a new `folder`: what git knows, and what is new.

    Paths that begin with one of `left_out` are not copied. Skips the test without git.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a checkout of git")
    for path in filter(None, listed.stdout.split("\0")):
        if not path.startswith(tuple(left_out)) and (ROOT / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)
    return folder


class Copy:
    """A copy of the repository in which a recipe is followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.edited: set[str] = set()

    def add(self, path: str, text: str) -> None:
        """A new file."""
        assert not (self.folder / path).exists(), f"{path} is there already"
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(text, encoding="utf-8")
        self.edited.add(path)

    def insert(self, path: str, text: str, *, before: str = "", after: str = "") -> None:
        """Lines beside the one place in a file that has `before` or `after`."""
        written, beside = (self.folder / path).read_text(encoding="utf-8"), before or after
        assert written.count(beside) == 1, (
            f"{path} has {beside!r} {written.count(beside)} times, wanted once: follow the recipe "
            f"in {RECIPES} by hand, and correct it or this test"
        )
        changed = written.replace(beside, text + beside if before else beside + text)
        (self.folder / path).write_text(changed, encoding="utf-8")
        self.edited.add(path)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """`python COMMAND` in the copy."""
        ours = ("PYTEST_", "PYTHONPATH", "COV_")
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith(ours)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def output(self, *command: str) -> str:
        """What `python COMMAND` prints; it has to succeed."""
        done = self.run(*command)
        assert done.returncode == 0, (
            f"after the recipe in {RECIPES}, python {' '.join(command)[:200]} fails with "
            f"{done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done.stdout

    def collected(self, *arguments: str) -> str:
        """The ids of the tests that pytest would run, a line each."""
        return self.output(*PYTEST, "--collect-only", *arguments)

    def test(self, *arguments: str) -> None:
        """Tests that are there already, among them those that name all there is; they pass."""
        self.output(*PYTEST, *arguments)
