"""Holds process groups to a share of a core's time, as the kernel's bandwidth control does.

In each period of 100 ms a group may use its share of a core; once it has, it is stopped until
the next period. Unlike the quota of a control group, this takes no rights beyond those over
one's own processes. `slowed` starts it as a program (`main`); however that ends, the groups
run on at full speed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from bench.errors import UserError
from bench.processes.guard import signal_group
from bench.processes.local import LocalSite

PERIOD_S = 0.1
# Looking more often would take from the core what the groups are to have of it.
LEAST_WAIT_S = 0.002
# Blocked and waited for, so that none interrupts between a stop and its record.
END_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_START_TIMEOUT_S = 60.0

_LIBC = ctypes.CDLL(None)


@contextmanager
def slowed(groups: Sequence[int], share: float) -> Iterator[None]:
    """Hold each of some process groups to `share` of a core's time within the context.

    Raises UserError when the throttle could not be started or was ended by somebody else.
    """
    arguments = [f"{share}", *map(str, groups)]
    try:
        with closing(LocalSite().start("bench.processes.throttle", arguments, 0)) as throttle:
            try:
                throttle.line(_START_TIMEOUT_S)  # once it is ready
            except UserError as error:
                raise UserError(f"cannot slow replicas down: {error}") from None
            yield
            end = throttle.ended()
    finally:
        _release(groups)  # the throttle may have been killed before it could
    if end is not None:
        raise UserError(f"the program that slows replicas down is gone: {end}")


# What follows runs in the program.


class Group:
    """A process group and how much CPU time its processes may use."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._clocks = [_cpu_clock(pid) for pid in members(number)]
        self._limit_s = self._used_s()
        self._stopped = False

    def refill(self, quota_s: float) -> None:
        """Begin a period: time left of the last one is lost, an excess is deducted."""
        self._limit_s = min(self._limit_s, self._used_s()) + quota_s

    def hold(self) -> float:
        """Stop or continue the group as its limit demands; the CPU time left, in seconds."""
        left_s = self._limit_s - self._used_s()
        if (left_s <= 0) is not self._stopped:
            self._stopped = left_s <= 0
            signal_group(self._number, signal.SIGSTOP if self._stopped else signal.SIGCONT)
        return left_s

    def _used_s(self) -> float:
        try:
            return sum(map(time.clock_gettime, self._clocks))
        except OSError:  # a process has died, and no replica lives on without one of its own
            self._clocks = []
            return 0.0


def members(group: int) -> list[int]:
    """The processes of a group."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if os.getpgid(int(process.name)) == group:
                found.append(int(process.name))
    return found


def throttle_groups(groups: Sequence[Group], quota_s: float) -> None:
    """Hold each of `groups` to `quota_s` a period until a signal, or the end of the input."""
    input_closed = select.poll()
    input_closed.register(0, 0)
    end_s = time.monotonic()
    while True:
        end_s += PERIOD_S
        for group in groups:
            group.refill(quota_s)
        while (rest_s := end_s - time.monotonic()) > 0:
            left_s = [left for group in groups if (left := group.hold()) > 0]
            # On its one core a group needs at least this long to use up what it has.
            wait_s = max(LEAST_WAIT_S, min(rest_s, *left_s)) if left_s else rest_s
            if signal.sigtimedwait(END_SIGNALS, wait_s) is not None or input_closed.poll(0):
                return


def main(share: float, numbers: Sequence[int]) -> None:
    """Hold the groups to `share` of a core."""
    signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
    groups = [Group(number) for number in numbers]
    print("ready", flush=True)
    try:
        throttle_groups(groups, share * PERIOD_S)
    finally:
        _release(numbers)


def _release(groups: Sequence[int]) -> None:
    for group in groups:
        signal_group(group, signal.SIGCONT)


def _cpu_clock(pid: int) -> int:
    """The clock that counts a process's CPU time, all its threads together."""
    clock = ctypes.c_int()
    if error := _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(error, os.strerror(error))
    return clock.value


if __name__ == "__main__":
    main(float(sys.argv[1]), [int(number) for number in sys.argv[2:]])
