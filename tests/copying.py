"""A copy of the repository, for tests that change or build it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
