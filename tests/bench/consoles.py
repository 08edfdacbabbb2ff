"""Engines that answer what a test says, in place of a container."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.environments.kvcached.collecting import Console
from bench.errors import UserError
from bench.processes.local import LocalProgram
from bench.processes.program import Program

DATA = Path(__file__).parents[1] / "data" / "kvcached"
GPU = "GPU-099c0d77-bb85-f2e9-f628-148b733c9176, NVIDIA H100 80GB HBM3, 46080, 81559\n"
_KVCTL = """
import pathlib
def cmd_list(ipc, json_out):
    print(pathlib.Path(__file__).with_name("kvctl.json").read_text())
"""


def refused(command: Sequence[str]) -> Program:
    """What starts no program."""
    raise UserError(f"{command[0]} is not there")


def console(
    run: Callable[[Sequence[str]], str],
    log: Iterable[str] = (),
    start: Callable[[Sequence[str]], Program] = refused,
) -> Console:
    """An engine whose commands are answered by `run`."""
    return Console("llama-0", "llama", "llama_0", 8000, "gpu-0", lambda: log, run, start)


def programs(folder: Path, gpus: str = GPU, segments: str | None = None) -> Path:
    """A folder with a `nvidia-smi` that writes `gpus`, and a `kvctl` that lists `segments`."""
    smi = folder / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ncat <<END\n{gpus}END\n", encoding="utf-8")
    smi.chmod(0o755)
    if segments is not None:
        package = folder / "kvcached" / "cli"
        package.mkdir(parents=True)
        for one in (package.parent, package):
            (one / "__init__.py").touch()
        (package / "kvctl.py").write_text(_KVCTL, encoding="utf-8")
        (package / "kvctl.json").write_text(segments, encoding="utf-8")
    return folder


def started_with(folder: Path) -> Callable[[Sequence[str]], Program]:
    """Starts programs where those of `programs` are first, as in the container of an engine."""
    (folder / "python3").symlink_to(sys.executable)
    path = f"PATH={folder}{os.pathsep}{os.environ['PATH']}"
    return lambda command: LocalProgram(["env", path, f"PYTHONPATH={folder}", *command])
