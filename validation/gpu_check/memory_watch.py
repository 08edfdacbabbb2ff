"""Writes the memory of a GPU and of KVCached's segments as JSON, a line a second, until ended.

    memory_watch.py GPU

It is run as a script by the Python that KVCached is installed for, and imports nothing of the
suite. `at_s` is CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
import time
from typing import Any

PERIOD_S = 1.0


def segments() -> Any:
    """What `kvctl list --json` writes; None without KVCached. Loading kvctl once saves seconds."""
    if importlib.util.find_spec("kvcached") is None:
        return None
    kvctl = importlib.import_module("kvcached.cli.kvctl")
    with contextlib.redirect_stdout(io.StringIO()) as text:
        kvctl.cmd_list(None, json_out=True)
    return json.loads(text.getvalue())


def used_mib(gpu: str) -> int | None:
    """What of the GPU is in use, by nvidia-smi; None if it does not say."""
    command = ["nvidia-smi", "-i", gpu, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else None


def main(gpu: str) -> None:
    """Write lines for ever."""
    while True:
        line = {"at_s": time.monotonic(), "used_mib": used_mib(gpu), "segments": segments()}
        print(json.dumps(line), flush=True)
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main(sys.argv[1])
