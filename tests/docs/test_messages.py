"""Each message that a page explains is one that the code has."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.docs.pages import PAGES, ROOT

# A table of messages begins with this.
HEAD = "the message says"
PACKAGES = ("bench", "lb", "reports", "validation")
# What stands for the values of a message.
GAP = "\0"


def templates() -> Iterator[str]:
    """Every text in the code, with a gap for each value that is filled in."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr | ast.Constant):
                    yield " ".join(_template(node).split())
        for path in (ROOT / package).rglob("*.yaml"):
            yield " ".join(path.read_text(encoding="utf-8").split())


def _template(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_template, node.values))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else GAP


def messages() -> Iterator[tuple[str, str]]:
    """Each message in a table of them, with its place."""
    for page in PAGES:
        listed = False
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            first = line.removeprefix("| ").partition(" | ")[0]
            if listed and line.startswith("| "):
                yield f"{page.relative_to(ROOT)}:{number}", first
            listed = line.startswith("|") and (listed or first == HEAD)


MESSAGES = tuple(messages())
TEMPLATES = tuple(set(templates()))


def has(template: str, parts: list[str]) -> bool:
    """Whether the template has all parts, one after the other."""
    at = 0
    for part in parts:
        at = template.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


@pytest.mark.parametrize("message", [text for _, text in MESSAGES], ids=[at for at, _ in MESSAGES])
def test_the_code_has_the_message(message: str) -> None:
    parts = [part for one in message.split("...") if (part := one.strip())]
    assert sum(map(len, parts)) >= 8, f"too little of {message!r} is fixed"
    assert any(has(one, parts) for one in TEMPLATES), f"nothing in the code says {message!r}"


def test_pages_have_messages() -> None:
    assert len({at.partition(":")[0] for at, _ in MESSAGES}) > 1
