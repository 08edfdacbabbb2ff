"""How a chart and a table are put on the page."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

import streamlit as st

from reports.charts.style import Chart
from reports.dashboard import figures

# Styles of matplotlib are of the whole process, and each page has a thread.
_DRAWING = Lock()
_WIDEST_PX = 640


def show_table(rows: Sequence[Mapping[str, str]], what: str) -> None:
    """A table with these rows; `what` is its description for screen readers."""
    escaped = [
        {figures.plain(name): figures.plain(text) for name, text in row.items()} for row in rows
    ]
    st.table(escaped, hide_index=True, alt=what)


def show_chart(draw: Callable[[], Chart], key: str) -> None:
    """The chart that is drawn, and a button that downloads it as PNG."""
    with _DRAWING:
        chart = draw()
        picture = chart.picture()

    def png() -> bytes:
        with _DRAWING:
            return chart.png()

    alt = html.escape(chart.title, quote=True)
    st.html(f'<img alt="{alt}" src="{picture.url}" style="width: 100%; max-width: {_WIDEST_PX}px">')
    name = f"{re.sub(r'[^a-z0-9]+', '-', chart.title.lower()).strip('-')}.png"
    st.download_button("PNG", png, name, "image/png", key=key, on_click="ignore", type="tertiary")
