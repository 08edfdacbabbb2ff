"""Why a process died, in one line, from its log."""

from __future__ import annotations

import re
from pathlib import Path

from bench.process import last_lines

# "ValueError: text", "ERROR: text" of pip, with or without vLLM's prefix
# "(EngineCore pid=7) ERROR 01-31 23:59:59 [core.py:42] ".
_PREFIX = re.compile(r"^\(\w+ pid=\d+\) (?:[A-Z]+ \d\d-\d\d [\d:]{8} \[[^\]]+\] )?")
_ERROR = re.compile(r"^(?:ERROR|[\w.]*(?:Error|Exception|Interrupt)): \S")
# Errors that only say that another process had one.
_SECONDARY = re.compile(r"Engine core initialization failed|EngineDeadError")

LOOK_BACK_LINES = 400
LIMIT = 300


def reason(log: Path) -> str:
    """The last primary error in a log, else its last line, else that it is empty."""
    lines = [_PREFIX.sub("", line) for line in last_lines(log, LOOK_BACK_LINES).splitlines()]
    errors = [line for line in lines if _ERROR.match(line)]
    primary = [line for line in errors if not _SECONDARY.search(line)]
    told = (primary or errors or lines or ["it wrote nothing"])[-1].strip()
    return told if len(told) <= LIMIT else told[: LIMIT - 1] + "…"
