"""Waits for a rented node: reads the line in which its startup script says how far it is.

terraform/modules/node-config/startup/node.sh writes that line.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.processes.guarded import last_lines, run_bounded
from bench.progress import Progress

STATUS = "/var/lib/llm-bench/status"
LOG = "/var/log/llm-bench-startup.log"
# A look takes a new connection. One that gives no answer is ended.
INTERVAL_S = 5.0
LOOK_S = 60.0
_READY, _FAILED, _RUNNING = "ready: ", "failed: ", "running: "
_NOT_STARTED = 127


def wait_for_node(ssh: str, progress: Progress, timeout_s: float, status: str = STATUS) -> str:
    """What the node says of itself when it is ready: GPUs, driver, what runs containers.

    `ssh` is the command that opens a shell on it; empty for this machine. A node that does not
    answer may be starting, so it is asked again. Raises UserError with one line when its startup
    script has failed, when `ssh` cannot work, and after `timeout_s` seconds.
    """
    try:
        shell = shlex.split(ssh)
    except ValueError as error:
        raise UserError(f"--ssh takes a command, seen {ssh!r}: {error}") from None
    # After `--`, ssh takes a command, and so does gcloud, which hands it to ssh.
    look = [*shell, *(["--"] if shell else []), "cat", status]
    end_s = time.monotonic() + timeout_s
    with (
        tempfile.TemporaryDirectory() as folder,
        progress.step("waiting for the node") as step,
    ):
        while True:
            said = _said(look, Path(folder) / "output", end_s)
            if said.startswith(_READY):
                return said.removeprefix(_READY)
            if said.startswith(_FAILED):
                raise UserError(f"the node's startup script {said}")
            step.update(said)
            if time.monotonic() + INTERVAL_S > end_s:
                raise UserError(
                    f"the node was not ready after {timeout_s:.0f} s: {said}; --ready-timeout "
                    f"allows more, and {LOG} there says what it does"
                )
            time.sleep(INTERVAL_S)


def _said(look: Sequence[str], output: Path, end_s: float) -> str:
    """The node's line; or why there is none, as the last line of what `look` printed.

    Raises UserError if no other look can succeed.
    """
    output.unlink(missing_ok=True)
    limit_s = max(1.0, min(LOOK_S, end_s - time.monotonic()))
    try:
        code = run_bounded(look[0], look, log=output, limit_s=limit_s)
    except UserError:
        return f"no answer within {limit_s:.0f} s"
    lines = [line.strip() for line in last_lines(output, 20).splitlines()]
    for line in lines:
        if line.startswith((_READY, _FAILED, _RUNNING)):
            return line
    last = lines[-1] if lines else f"{look[0]} ended with {code}"
    if code == _NOT_STARTED:
        raise UserError(f"cannot start {look[0]}, the command of --ssh: is it installed?")
    # gcloud's own errors: no such node, not logged in, no permission. With 255 ssh did not connect.
    errors = [line for line in lines if "ERROR: (gcloud." in line]
    if errors and code != 255:
        raise UserError(f"{errors[0]}; is it applied, and are you logged in? (gcloud auth login)")
    return "its startup script has not begun" if "No such file" in last else last
