"""What programs print and how they end: tables, mistakes in options, exit codes, logs."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, NoReturn

from rich.console import Console, RenderableType

from bench.errors import UserError


def mute(stream: IO[str]) -> None:
    """Discard all further output to `stream`, whose reader has gone, as with `... | head`."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def terminal() -> tuple[int, bool]:
    """The width of the terminal in characters, and whether it shows colours."""
    return shutil.get_terminal_size((120, 24)).columns, sys.stdout.isatty()


def as_text(parts: Iterable[RenderableType], *, width: int, narrowest: int, colour: bool) -> str:
    """All parts one below the other, `width` characters wide but at least `narrowest`.

    Lines have no blanks at their end. Colours are the terminal's own, which suit its background.
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


# The exit code after Ctrl-C.
INTERRUPTED = 130
# The shell's code for a program that SIGPIPE has ended.
_READER_GONE = 141


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are UserErrors."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def whole_number(text: str) -> int:
    """A number from 1, as the type of an option. Raises ArgumentTypeError for other text."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def exit_code(
    work: Callable[[], int | None], interrupted: str = "interrupted; nothing was kept"
) -> int:
    """The exit code that `work` returns (0 if none).

    For a user's mistake it is 2, after one line on stderr; after Ctrl-C 130, with the text
    `interrupted`.
    """
    try:
        return work() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code.

    A reader of the output that has gone, as in `... | head`, is no traceback.
    """
    try:
        try:
            code = main()
        except SystemExit as ended:  # argparse, after --help
            code = ended.code if isinstance(ended.code, int) else 1
        sys.stdout.flush()
    except BrokenPipeError:
        mute(sys.stdout)
        code = _READER_GONE
    sys.exit(code)


def log_folder(root: Path, what: str) -> Path:
    """A new folder for the logs of this run."""
    folder = root / ".cache" / "logs" / f"{what}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    return folder
