"""How Sphinx makes a site of the pages, as they are: `make docs-site`.

MyST reads what GitHub shows, with the same anchors. Nothing is fetched to read the site.
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
# What `make docs-site` takes from npm: it draws pictures that are written in Mermaid's language.
SCRIPTS = ROOT / ".cache" / "docs" / "scripts"
MERMAID = "mermaid.min.js"

project = "A/B bench for LLM serving"
settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
version = release = settings["project"]["version"]
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
# Folders that need no look.
exclude_patterns = [".*", "*/node_modules", "allure-report", "allure-results", "results", "tests"]
myst_heading_anchors = 6
myst_fence_as_directive = ["mermaid"]
# Two dashes are the beginning of an option.
smartquotes = False
html_theme = "furo"
html_title = project
html_static_path = [str(SCRIPTS)] if SCRIPTS.is_dir() else []
html_copy_source = False
html_show_copyright = False

CONTENTS = {
    "Begin": ("docs/tutorial", "docs/troubleshooting", "docs/glossary"),
    "How to": ("docs/how-to/*",),
    "Reference": ("docs/reference/*",),
    "Explanation": ("docs/explanation/*", "docs/evidence/README", "docs/study/README"),
    "The project": ("docs/README", "CONTRIBUTING", "CHANGELOG"),
    "Decisions": ("docs/decisions/*",),
}


class Mermaid(Directive):
    """A picture in Mermaid's language, drawn by the browser."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The text, in the element that Mermaid's script looks for."""
        text = escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">\n{text}\n</pre>', format="html")]


def add_contents(_app: Sphinx, page: str, text: list[str]) -> None:
    """Give the first page the contents, which the side bar shows."""
    if page == root_doc:
        for caption, pages in CONTENTS.items():
            listed = "\n".join(pages)
            text[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n{listed}\n```\n"


def add_script(
    app: Sphinx, _page: str, _template: str, _context: dict[str, Any], tree: nodes.document | None
) -> None:
    """Give pages with pictures the script that draws them."""
    pictures = tree is not None and any(
        'class="mermaid"' in one for one in map(str, tree.findall(nodes.raw))
    )
    if pictures and SCRIPTS.is_dir():
        app.add_js_file(MERMAID)


def add_index(app: Sphinx, error: Exception | None) -> None:
    """Lead from the site's folder to the first page."""
    if error is None:
        page = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        (app.outdir / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.add_directive("mermaid", Mermaid)
    app.connect("source-read", add_contents)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", add_index)
