"""The picture of import layers, made from the code: `python -m tests.layers`.

Writes docs/explanation/layers.md. tests/test_layers.py fails while the page differs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "layers.md"
HEAD = """# Layers of imports

Made from the code by `python -m tests.layers`. An arrow goes from a package to one that it
imports; arrows that follow from others are left out. `make check` holds the direction
(`[tool.importlinter]` in `pyproject.toml`).
"""

Edges = Mapping[str, Set[str]]


def root_packages() -> list[str]:
    """The packages that the import contracts are about."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(settings["tool"]["importlinter"]["root_packages"])


def page() -> str:
    """The whole page: one picture of the packages, then one of what is in each."""
    packages = root_packages()
    whole = grimp.build_graph(*packages, cache_dir=None)
    pictures = [("Packages", edges(whole, packages))]
    pictures += [
        (f"In `{name}/`", edges(whole, sorted(whole.find_children(name)))) for name in packages
    ]
    return HEAD + "".join(f"\n## {title}\n\n{mermaid(found)}" for title, found in pictures)


def edges(graph: grimp.ImportGraph, parts: list[str]) -> Edges:
    """Which of `parts` each of them imports anything of."""
    members = {part: {part} | graph.find_descendants(part) for part in parts}
    owner = {module: part for part, modules in members.items() for module in modules}
    return {
        part: {
            owner[imported]
            for module in modules
            for imported in graph.find_modules_directly_imported_by(module)
            if imported in owner
        }
        - {part}
        for part, modules in members.items()
    }


def reduced(found: Edges) -> Edges:
    """The edges without those that a longer way implies which does not come back.

    Of two parts that import each other neither is on the way to the other.
    """

    def implied(part: str, one: str, two: str) -> bool:
        return one in reachable(found, two, part) and two not in reachable(found, one, part)

    return {
        part: {one for one in direct if not any(implied(part, one, two) for two in direct - {one})}
        for part, direct in found.items()
    }


def reachable(found: Edges, start: str, without: str) -> set[str]:
    """Everything that `start` imports, directly or not, but not by way of `without`."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for one in found[waiting.pop()] - seen - {without}:
            seen.add(one)
            waiting.append(one)
    return seen


def mermaid(found: Edges) -> str:
    return "".join(
        f"{line}\n" for line in ("```mermaid", "flowchart TD", *_lines(reduced(found)), "```")
    )


def _lines(found: Edges) -> Iterator[str]:
    imported = set().union(*found.values())
    for part, direct in sorted(found.items()):
        if not direct and part not in imported:
            yield f"  {_node(part)}"
        for one in sorted(direct):
            yield f"  {_node(part)} --> {_node(one)}"


def _node(module: str) -> str:
    # `end` and the like are words of the language: only the label has the plain name.
    return f'{module.replace(".", "_")}_["{module.rpartition(".")[2]}"]'


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
