"""How a chart and a table are put on the page."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from threading import Lock
from typing import TypeVar

import streamlit as st

from reports.charts.style import Chart, Picture
from reports.dashboard import figures

Drawn = TypeVar("Drawn")

# Styles of matplotlib are of the whole process, and each page has a thread.
_DRAWING = Lock()
_WIDEST_PX = 640
_KEPT = 8


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
    alt = html.escape(chart.title, quote=True)
    st.html(f'<img alt="{alt}" src="{picture.url}" style="width: 100%; max-width: {_WIDEST_PX}px">')
    st.download_button(
        "PNG",
        partial(drawn, chart.png),
        f"{re.sub(r'[^a-z0-9]+', '-', chart.title.lower()).strip('-')}.png",
        "image/png",
        key=key,
        on_click="ignore",
        type="tertiary",
    )


@lru_cache(maxsize=_KEPT)
def _picture(chart: Chart) -> Picture:
    return chart.picture()
