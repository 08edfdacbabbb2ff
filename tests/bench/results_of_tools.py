"""Real results of other tools, and copies of them with something changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli.commands import main

RESULTS = Path(__file__).parents[1] / "data" / "results"
VLLM = RESULTS / "vllm-bench-0.30.0"
DETAILED, PLAIN, RATE = (VLLM / kind for kind in ("detailed", "plain", "rate"))

Change = Callable[..., object]


def sides(source: Path, folder: Path, runs: int = 2) -> tuple[Path, Path]:
    """Copies of the first runs of a tool's folders A and B."""
    for side in "AB":
        for number in range(1, runs + 1):
            shutil.copytree(source / side / str(number), folder / side / str(number))
    return folder / "A", folder / "B"


def result_in(folder: Path) -> Path:
    """The one result file in a folder."""
    (path,) = (one for one in sorted(folder.rglob("*.json*")) if "summary" not in one.name)
    return path


def change(path: Path, edit: Change) -> Path:
    """Change a JSON result in place."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


class Compared:
    """What `python -m bench compare` returned, printed and wrote."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def file(self) -> Path:
        """The JSON file that it wrote."""
        return Path(self.out.rpartition("results: ")[2].strip())

    @property
    def written(self) -> dict[str, Any]:
        """The content of that file."""
        content: dict[str, Any] = json.loads(self.file.read_text())
        return content

    @property
    def case(self) -> dict[str, Any]:
        """Its only scenario."""
        (case,) = self.written["scenarios"]
        found: dict[str, Any] = case
        return found

    @property
    def primary(self) -> dict[str, Any]:
        """The primary comparison of its only scenario."""
        found: dict[str, Any] = self.case["comparisons"][0]
        return found

    @property
    def notes(self) -> str:
        return "\n".join(self.case["notes"])


def compared(capsys: pytest.CaptureFixture[str], results: Path, *typed: str | Path) -> Compared:
    """Run the command."""
    code = main(["compare", *map(str, typed), "--results", str(results)])
    said = capsys.readouterr()
    return Compared(code, said.out, said.err)
