"""Replicas that get only a share of their core's time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.errors import UserError
from bench.processes.logs import reason

THROTTLE = Path(__file__).with_name("throttle.py")


@contextmanager
def slowed(groups: Sequence[int], share: float, log: Path) -> Iterator[None]:
    """Hold each of some process groups to `share` of a core's time within the context.

    Raises UserError when the throttle could not be started or was ended by somebody else.
    """
    numbers = (os.getpid(), share, *groups)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        # -I -S: it needs the standard library only, and starts in a moment.
        throttle = subprocess.Popen(
            [sys.executable, "-I", "-S", str(THROTTLE), *map(str, numbers)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C reaches this process, which ends it in order
        )
    try:
        assert throttle.stdout is not None
        throttle.stdout.readline()  # once it is ready
        yield
        if (code := throttle.poll()) is not None:
            raise UserError(
                f"what slows replicas down ended with code {code}: {reason(log)}; see {log}"
            )
    finally:
        throttle.terminate()
        throttle.communicate()
        _release(groups)


def _release(groups: Sequence[int]) -> None:
    """Let the groups go on, also when the throttle was killed before it could."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
