"""Generated YAML files of a folder: their text, and how the folder differs from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import yaml

HEADER = "# Made from bench/topology.yaml by `python -m bench manifests`: change it there.\n"
_WIDTH = 100


def file_text(documents: Iterable[object], about: str = "") -> str:
    """The text of a generated file; `about` is a comment at its beginning."""
    comment = "".join(f"# {line}\n" for line in about.splitlines())
    return HEADER + comment + as_yaml(documents)


def as_yaml(documents: Iterable[object]) -> str:
    """Documents as YAML, in the order of their keys, without aliases."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=_WIDTH)


def first_difference(folder: Path, files: Mapping[PurePosixPath, str]) -> str | None:
    """How `folder` differs from `files`: one line that names one file; None if it does not."""
    for path, text in files.items():
        file = folder / path
        if not file.is_file():
            return f"{file} is missing"
        if file.read_text(encoding="utf-8") != text:
            return f"{file} differs from the topology"
    for file in _left_over(folder, files):
        return f"{file} belongs to nothing in the topology"
    return None


def write_files(folder: Path, files: Mapping[PurePosixPath, str]) -> None:
    """Write `files` into `folder`, and remove other files that were generated earlier."""
    for file in _left_over(folder, files):
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _left_over(folder: Path, files: Mapping[PurePosixPath, str]) -> list[Path]:
    """Generated files in `folder` that are not among `files`."""
    wanted = {folder / path for path in files}
    return [
        file
        for file in sorted(folder.rglob("*.yaml"))
        if file not in wanted and file.read_text(encoding="utf-8").startswith(HEADER)
    ]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and repeated values in full."""

    def ignore_aliases(self, data: object) -> bool:
        del data  # whatever it is
        return True


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)
