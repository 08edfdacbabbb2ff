"""How a chart and a table are put on the page."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from threading import Lock
from typing import TypeVar

import streamlit as st

from reports.charts.style import DARK, Chart, Picture
from reports.dashboard import figures

Drawn = TypeVar("Drawn")

# Styles of matplotlib are of the whole process, and each page has a thread.
_DRAWING = Lock()
_WIDEST_PX = 640
_KEPT = 8
_SHOWN = """
<img alt="{title}" aria-describedby="{key}" src="{url}"
 style="width: 100%; max-width: {width}px; filter: {filter}"><p id="{key}" hidden>{text}</p>
"""


def show_table(rows: Sequence[Mapping[str, str]], what: str) -> None:
    """A table with these rows; `what` is its description for screen readers."""
    escaped = [
        {figures.plain(name): figures.plain(text) for name, text in row.items()} for row in rows
    ]
    st.table(escaped, hide_index=True, alt=what)


def drawn(draw: Callable[..., Drawn], *arguments: object) -> Drawn:
    """What `draw` returns, a chart or several, while nothing else is drawn."""
    with _DRAWING:
        return draw(*arguments)


def show_chart(chart: Chart, key: str) -> None:
    """The chart, and a button that downloads it as PNG; `key` tells it from others of the page."""
    picture = drawn(_picture, chart)
    values = _SHOWN.format(
        title=html.escape(picture.title, quote=True),
        url=picture.url,
        text=html.escape(picture.text),
        key=f"values-of-{_slug(key)}",
        width=_WIDEST_PX,
        filter=DARK if st.context.theme.type == "dark" else "none",
    )
    st.html(values)
    st.download_button(
        "PNG",
        partial(drawn, chart.png),
        f"{_slug(chart.title)}.png",
        "image/png",
        key=key,
        on_click="ignore",
        type="tertiary",
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@lru_cache(maxsize=_KEPT)
def _picture(chart: Chart) -> Picture:
    return chart.picture()
