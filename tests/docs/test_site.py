"""The site of all pages is built without a warning, and asks nobody else for anything."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("sphinx") is None,
        reason="needs Sphinx: python -m pip install -r docs/requirements.in",
    ),
]
STRICT = ("--quiet", "--nitpicky", "--fail-on-warning", "--keep-going")
# What a browser fetches by itself, with the address of another machine.
FETCHED = re.compile(
    r"""(?:\ssrc=["']?|<link\s[^>]*?href=["']?|url\(["']?|@import\s+["'])(?:https?:)?//[^"')>\s]+"""
)


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Do what `make docs-site` does."""
    trees = site.parent / "trees"
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *STRICT, "-c", "docs", "-d", str(trees), ".", str(site)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_builds_it_as_strictly() -> None:
    assert " ".join(STRICT) in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_page_is_there_and_nothing_is_fetched(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = build(ROOT, site)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {str(path.relative_to(ROOT).with_suffix(".html")) for path in PAGES}
    assert sorted(page for page in pages if not (site / page).is_file()) == []
    texts = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    assert [found for path in texts for found in FETCHED.findall(path.read_text("utf-8"))] == []


def test_a_broken_link_fails(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for path in ("docs/conf.py", "pyproject.toml"):
        shutil.copyfile(ROOT / path, tmp_path / path)
    links = ("docs/none.md", "docs/page.md#no-part", "#nowhere", "no-file.py")
    (tmp_path / "README.md").write_text(
        "# First\n\n" + "".join(f"[link]({one})\n" for one in links)
    )
    (tmp_path / "docs" / "page.md").write_text("# Page\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for said in ("'docs/none.md'", "'no-part'", "'nowhere'", "'no-file.py'"):
        assert any(said in line and "README.md:" in line for line in done.stderr.splitlines())
