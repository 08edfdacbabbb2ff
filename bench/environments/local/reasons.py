"""Why a process died, in one line, from its log."""

from __future__ import annotations

import re
from pathlib import Path

from bench.process import last_lines

# vLLM writes "(EngineCore pid=7) ERROR 01-31 23:59:59 [core.py:42] text".
_PREFIX = re.compile(r"^\(\w+ pid=\d+\) (?:[A-Z]+ \d\d-\d\d [\d:]{8} \[[^\]]+\] )?")
# "ValueError: text" of Python, "ERROR: text" of pip.
_ERROR = re.compile(r"^(?:ERROR|[\w.]*(?:Error|Exception)): \S")
# What is no error: "INFO: text", with or without the process in front.
_CHATTER = re.compile(r"^(?:\(\w+ pid=\d+\) )?(?:DEBUG|INFO|WARNING)\b")
# Errors that only say that another process had one.
_SECONDARY = re.compile(r"Engine core initialization failed|EngineDeadError")

LOOK_BACK_LINES = 400
LIMIT = 300


def reason(log: Path) -> str:
    """The last primary error in a log, else its last line that is no mere information."""
    said = last_lines(log, LOOK_BACK_LINES).splitlines()
    lines = [_PREFIX.sub("", line) for line in said if not _CHATTER.match(line)]
    errors = [index for index, line in enumerate(lines) if _ERROR.match(line)]
    primary = [index for index in errors if not _SECONDARY.search(lines[index])]
    told = _message(lines, (primary or errors or [len(lines) - 1])[-1]) if lines else ""
    told = told or "its log tells no error"
    return told if len(told) <= LIMIT else told[: LIMIT - 1] + "…"


def _message(lines: list[str], index: int) -> str:
    """The line at `index`, with its first detail where that is indented below it."""
    below = lines[index + 1] if index + 1 < len(lines) else ""
    detail = f": {below.strip()}" if below.startswith(" ") else ""
    return lines[index].strip() + detail
