"""Why a process died, in one line, from its log."""

from __future__ import annotations

import re
from pathlib import Path

from bench.processes.guarded import last_lines

# vLLM writes "(EngineCore pid=7) ERROR 01-31 23:59:59 [core.py:42] text".
_PREFIX = re.compile(r"^\(\w+ pid=\d+\) (?:[A-Z]+ \d\d-\d\d [\d:]{8} \[[^\]]+\] )?")
# "ValueError: text" of Python, "ERROR: text" and "× text" of pip.
_ERROR = re.compile(r"^(?:(?:ERROR|[\w.]*(?:Error|Exception)):|×) \S")
# What is no error: "INFO: text", with or without the process in front, and torch's
# "[W0131 23:59:59.123 utils.cpp:68] text".
_CHATTER = re.compile(r"^(?:\(\w+ pid=\d+\) )?(?:(?:DEBUG|INFO|WARNING)\b|\[?[IW]\d{4} [\d:]{8}\.)")
# Errors that only say that another process had one.
_SECONDARY = re.compile(r"Engine core initialization failed|EngineDeadError")

LOOK_BACK_LINES = 400
LIMIT = 300


def reason(log: Path) -> str:
    """The last primary error in a log, else its last line that is no mere information."""
    return reason_in(last_lines(log, LOOK_BACK_LINES))


def reason_in(said: str) -> str:
    """Like `reason`, of what a process said."""
    lines = _telling_lines(said)
    errors = _errors(lines)
    if not lines:
        return "its log tells no error"
    return _shortened(_message(lines, errors[-1] if errors else len(lines) - 1))


def death(log: Path) -> str:
    """Why something that ran well is gone: its last primary error, if it had any."""
    lines = _telling_lines(last_lines(log, LOOK_BACK_LINES))
    errors = _errors(lines)
    if not errors:
        return "no error in its log, so it was killed from outside"
    return _shortened(_message(lines, errors[-1]))


def _telling_lines(said: str) -> list[str]:
    lines = [line for line in said.splitlines() if line.strip()]
    return [_PREFIX.sub("", line) for line in lines if not _CHATTER.match(line)]


def _errors(lines: list[str]) -> list[int]:
    """Where the errors are, the primary ones if there are any."""
    errors = [index for index, line in enumerate(lines) if _ERROR.match(line)]
    return [index for index in errors if not _SECONDARY.search(lines[index])] or errors


def _shortened(text: str) -> str:
    return text if len(text) <= LIMIT else text[: LIMIT - 1] + "…"


def _message(lines: list[str], index: int) -> str:
    """The line at `index`, with its first detail where that is indented below it."""
    below = lines[index + 1] if index + 1 < len(lines) else ""
    detail = f": {below.strip()}" if below.startswith(" ") else ""
    return lines[index].strip() + detail
