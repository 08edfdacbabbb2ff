"""Does nothing, in a pod that programs are started in: `python -m bench.processes.idle`.

The first process of a load pod. It ends at SIGTERM, and by itself when for `UNUSED_S` seconds
no other process has run in the pod: its user is gone.
"""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Event
from time import monotonic

# Bringing up engines of two arms may take an hour, in which no load is sent.
UNUSED_S = 2 * 3600.0
CHECK_EVERY_S = 30.0


def main() -> None:
    """Return when the pod is not needed any more."""
    over = Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    # Processes whose parents have ended are this one's children here: nobody waits for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    used_s = monotonic()
    while not over.wait(CHECK_EVERY_S):
        if others_run():
            used_s = monotonic()
        elif monotonic() - used_s >= UNUSED_S:
            break


def others_run() -> bool:
    """Whether there is a process besides this one."""
    return sum(one.name.isdecimal() for one in Path("/proc").iterdir()) > 1


if __name__ == "__main__":
    main()
