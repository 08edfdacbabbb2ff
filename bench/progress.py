"""Progress of long work: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.console import mute


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work under way; `update` shows what is done or waited for now."""

    update: Callable[[str], None]


class PlainProgress:
    """Lines for logs. There are at least `every_s` between two updates of a step."""

    def __init__(self, stream: TextIO, every_s: float = 10.0) -> None:
        self._stream = stream
        self._every_s = every_s

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Show the start of a piece of work, and its end with the time that it took."""
        self.note(f"{text} ...")
        started_s = last_s = time.monotonic()

        def update(state: str) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if now_s - last_s >= self._every_s:
                last_s = now_s
                self.note(f"{text}: {state} ({now_s - started_s:.0f} s)")

        yield Step(update)
        self.note(f"{text}: done in {time.monotonic() - started_s:.1f} s")

    def note(self, text: str) -> None:
        """Show a line that stays visible."""
        try:
            print(text, file=self._stream, flush=True)
        except BrokenPipeError:
            mute(self._stream)  # the work goes on


class TerminalProgress:
    """A live line with a spinner and a clock; finished steps stay as plain lines."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        started_s = time.monotonic()
        text_column = TextColumn("{task.description}", markup=False)
        columns = (SpinnerColumn(), text_column, TimeElapsedColumn())
        with RichProgress(*columns, console=self._console, transient=True) as live:
            task = live.add_task(text, total=None)
            yield Step(lambda state: live.update(task, description=f"{text}: {state}"))
        self.note(f"{text}: done in {time.monotonic() - started_s:.1f} s")

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)


Progress = PlainProgress | TerminalProgress


def make_progress(stream: TextIO | None = None) -> Progress:
    """The progress that suits `stream` (default: stderr)."""
    out = stream or sys.stderr
    return TerminalProgress(out) if out.isatty() else PlainProgress(out)
