"""Limits the CPU time of process groups as the kernel's bandwidth control does.

Not imported: `slowing` runs this file as a script. In each period of 100 ms a group may
use so much of a core's time; once it has, it is stopped until the next period. Unlike the
quota of a control group, this takes no rights beyond those over one's own processes.

However this process ends, except by SIGKILL, the groups go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.errors import UserError
from bench.processes.logs import reason

PERIOD_S = 0.1
# To look more often would take from the core what the groups are to have of it.
LEAST_WAIT_S = 0.002
PR_SET_PDEATHSIG = 1
# They are blocked and waited for, so that none interrupts in the wrong place.
ENDINGS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

_LIBC = ctypes.CDLL(None)


class Group:
    """A process group and how much CPU time its processes may use."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._clocks = [_cpu_clock(pid) for pid in members(number)]
        self._limit_s = self._used_s()
        self._stopped = False

    def refill(self, quota_s: float) -> None:
        """Begin a period: what is left of the last one lapses, what was overdrawn is owed."""
        self._limit_s = min(self._limit_s, self._used_s()) + quota_s

    def hold(self) -> float:
        """Stop the group or let it go on, as it has to be; the CPU time that it has left."""
        left_s = self._limit_s - self._used_s()
        if (left_s <= 0) is not self._stopped:
            self._stopped = left_s <= 0
            self._signal(signal.SIGSTOP if self._stopped else signal.SIGCONT)
        return left_s

    def release(self) -> None:
        self._signal(signal.SIGCONT)

    def _used_s(self) -> float:
        try:
            return sum(map(time.clock_gettime, self._clocks))
        except OSError:  # a process has died, and no replica lives on without one of its own
            self._clocks = []
            return 0.0

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._number, number)


def members(group: int) -> list[int]:
    """The processes of a group: proc(5), the third field after the name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group:
                found.append(int(stat.parent.name))
    return found


def throttle(groups: Sequence[Group], quota_s: float) -> None:
    """Hold each of `groups` to `quota_s` a period until a signal asks to end."""
    ends_s = time.monotonic()
    while True:
        ends_s += PERIOD_S
        for group in groups:
            group.refill(quota_s)
        while (rest_s := ends_s - time.monotonic()) > 0:
            left_s = [left for group in groups if (left := group.hold()) > 0]
            # On its one core a group needs at least this long to use up what it has.
            wait_s = max(LEAST_WAIT_S, min(rest_s, *left_s)) if left_s else rest_s
            if signal.sigtimedwait(ENDINGS, wait_s) is not None:
                return


def main(parent: int, share: float, numbers: Sequence[int]) -> None:
    """Hold the groups to `share` of a core until a signal, or the parent's end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the line above
        return
    groups = [Group(number) for number in numbers]
    print("ready", flush=True)
    try:
        throttle(groups, share * PERIOD_S)
    finally:
        for group in groups:
            group.release()


def _cpu_clock(pid: int) -> int:
    """The clock that tells a process's CPU time, all its threads together."""
    clock = ctypes.c_int()
    if error := _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(error, os.strerror(error))
    return clock.value


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), [int(number) for number in sys.argv[3:]])


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
