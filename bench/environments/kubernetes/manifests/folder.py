"""The generated files on disk."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from bench.environments.kubernetes.manifests.files import HEADER

K8S = Path(__file__).parents[4] / "k8s"


def suite_version(pyproject: Path) -> str:
    """The version of the suite, which its images have as their tag."""
    version: str = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"]
    return version


def drift(folder: Path, files: Mapping[PurePosixPath, str]) -> str | None:
    """How `folder` differs from `files`, in one line that names a file; None if it does not."""
    for path, text in files.items():
        file = folder / path
        if not file.is_file():
            return f"{file} is missing"
        if file.read_text(encoding="utf-8") != text:
            return f"{file} differs from the topology"
    for file in _left_over(folder, files):
        return f"{file} is of nothing in the topology"
    return None


def write(folder: Path, files: Mapping[PurePosixPath, str]) -> None:
    """Write `files` into `folder`, and remove what was generated there before."""
    for file in _left_over(folder, files):
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _left_over(folder: Path, files: Mapping[PurePosixPath, str]) -> list[Path]:
    wanted = {folder / path for path in files}
    return [
        file
        for file in sorted(folder.rglob("*.yaml"))
        if file not in wanted and file.read_text(encoding="utf-8").startswith(HEADER)
    ]
