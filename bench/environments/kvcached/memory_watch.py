"""Reads the memory of GPUs and of KVCached's segments each second, until it is told to end.

    memory_watch.py nvidia-smi OPTION...

It is run by the Python that KVCached is installed for, beside the engines, and imports nothing of
the suite. Once it has read for the first time, it answers `clock` with the time of its monotonic
clock, and `end` with all that it has read, as JSON in one line. It ends then, or when its input is
closed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import select
import subprocess
import sys
import time
from collections.abc import Sequence

PERIOD_S = 1.0


def segments() -> str:
    """What `kvctl list --json` writes; no segments without KVCached.

    Loading kvctl once saves seconds. What it cannot do is in place of its list.
    """
    if importlib.util.find_spec("kvcached") is None:
        return "[]"
    try:
        kvctl = importlib.import_module("kvcached.cli.kvctl")
        with contextlib.redirect_stdout(io.StringIO()) as text:
            kvctl.cmd_list(None, json_out=True)
    except (ImportError, OSError, RuntimeError, ValueError, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return text.getvalue()


def output(command: Sequence[str]) -> str:
    """What a command writes, or what it says of its failure."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stdout if done.returncode == 0 else done.stderr or done.stdout


def main(nvidia_smi: Sequence[str]) -> None:
    """Read until told to end."""
    asked = io.FileIO(0, closefd=False)  # a buffer would hide from `select` what it has taken
    rows, due_s = [], time.monotonic()
    while True:
        rows.append((time.monotonic(), output(nvidia_smi), segments()))
        due_s = max(due_s + PERIOD_S, time.monotonic())
        while select.select([asked], [], [], max(0.0, due_s - time.monotonic()))[0]:
            line = asked.readline()
            if line == b"clock\n":
                print(time.monotonic(), flush=True)
                continue
            if line:
                print(json.dumps(rows), flush=True)
            return


if __name__ == "__main__":
    main(sys.argv[1:])
