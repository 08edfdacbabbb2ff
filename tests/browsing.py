"""What tests of pages in a real browser share: Chromium of the system, axe, and colours."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.progress import make_progress
from reports.node import packages

CHROMIUM = shutil.which("chromium")
NEEDS_BROWSER = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a browser: apt-get install -y chromium"
)
_AXE = Path(__file__).with_name("reports") / "axe"


@cache
def _axe() -> str:
    """The script of axe, installed at first use."""
    try:
        modules = packages(make_progress(), _AXE)
    except UserError as error:
        pytest.skip(str(error))
    return (modules / "axe-core" / "axe.min.js").read_text("utf-8")


def axe_findings(page: Any, without: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The rule and the first element of all that axe finds on a page, `without` some rules."""
    page.evaluate(_axe())
    options = {"rules": {rule: {"enabled": False} for rule in without}}
    found = page.evaluate("options => axe.run(options).then(all => all.violations)", options)
    return [(one["id"], one["nodes"][0]["html"][:300]) for one in found]


def described(page: Any) -> list[tuple[str, str, str]]:
    """Role, name and description of all that a screen reader is told of a page, in its order."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [
        tuple(one.get(part, {}).get("value", "") for part in ("role", "name", "description"))
        for one in nodes
        if not one["ignored"]
    ]
