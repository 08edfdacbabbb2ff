"""Removes the containers of projects when the process that started this program is gone.

    python -m bench.environments.docker.reaper PROJECT...

It prints a line when it is ready. At `end` it ends and leaves everything. When its input is closed
without that, which the kernel does however its starter ended, kill -9 included, it removes all.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

from bench.environments.docker.daemon import Daemon
from bench.environments.docker.project import take_down
from bench.processes.machine import hold_machine
from bench.processes.program import END
from bench.progress import make_progress

# Compose may still be creating containers: it is ended in as long at most.
_SETTLE_S = 10.0
_ADDRESS = "\0llm-bench-docker"
_WAIT_S = 60.0


def main(projects: Sequence[str]) -> None:
    """Wait for the end of the input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    daemon, progress = Daemon.chosen(os.environ), make_progress()
    # The next run's waits here for the end of what this one removes.
    with hold_machine("containers", progress, _WAIT_S, address=_ADDRESS):
        print("ready", flush=True)
        if sys.stdin.buffer.read() == END:
            return
        end_s = time.monotonic() + _SETTLE_S
        while time.monotonic() < end_s:
            for project in projects:
                take_down(daemon, project, progress)
            time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1:])
