"""Tables and lines as text, for a terminal of any width or for a log."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import IO

from rich.console import Console, RenderableType


def mute(stream: IO[str]) -> None:
    """Send what is still written to `stream` to nobody: its reader has gone, as `head` does."""
    nobody = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nobody, stream.fileno())
    os.close(nobody)


def as_text(parts: Iterable[RenderableType], *, width: int, narrowest: int, colour: bool) -> str:
    """All parts one below the other, `width` wide but not less than `narrowest`.

    Lines end without blanks. Colours are the terminal's own: they suit dark and light
    backgrounds alike.
    """
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=max(width, narrowest),
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        legacy_windows=False,
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().split("\n"))
