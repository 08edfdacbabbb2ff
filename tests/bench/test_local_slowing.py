"""Slowing down: a share of CPU time for some process groups, and never a stop that stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bench.errors import UserError
from bench.processes.throttle import members, slowed

pytestmark = [pytest.mark.slow, pytest.mark.serial]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
# Two busy processes in one group, as a server and its engine are.
BUSY = "import os\nos.fork()\nwhile True: pass"
IDLE = "import time\nprint('idle', flush=True)\ntime.sleep(600)"
# Almost always stopped, so that whether somebody still stops it shows at once.
HARDLY = 0.02
SLOWS = """
import sys, time
from bench.processes.throttle import slowed
with slowed([int(sys.argv[1])], float(sys.argv[2])):
    time.sleep(600)
"""


@contextmanager
def group(code: str) -> Iterator[int]:
    """A process group that runs `code` on one core."""
    leader = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.DEVNULL
    )
    os.sched_setaffinity(leader.pid, {max(os.sched_getaffinity(0))})
    try:
        yield leader.pid
    finally:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()


@pytest.fixture
def busy() -> Iterator[int]:
    with group(BUSY) as number:
        until(lambda: len(members(number)) == 2)
        yield number


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def is_stopped(number: int) -> bool:
    return any(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in members(number))


def goes_on_for_good(number: int) -> bool:
    """Whether nobody stops it any more: in so long a time whoever does would be seen to."""
    ends_s = time.monotonic() + 0.5
    while time.monotonic() < ends_s:
        if is_stopped(number):
            return False
        time.sleep(0.005)
    return True


def used_s(number: int) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in members(number)]
    return sum(each.user + each.system for each in times)


def throttle_of(number: int) -> psutil.Process:
    """The process that throttles a group: started by this one or by one that it started."""
    (found,) = (
        process
        for process in psutil.Process().children(recursive=True)
        if "bench.processes.throttle" in process.cmdline()
    )
    assert str(number) in found.cmdline()
    return found


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_group_gets_its_share_of_a_core_and_no_more(busy: int, share: float) -> None:
    with slowed([busy], share):
        started_s, before_s = time.monotonic(), used_s(busy)
        time.sleep(2.0)
        got = (used_s(busy) - before_s) / (time.monotonic() - started_s)
    # Times are told in hundredths of a second; a machine under load may give it less.
    assert 0 < got < share + 0.06
    assert goes_on_for_good(busy)


def test_all_of_the_group_is_stopped_and_nothing_else(busy: int) -> None:
    with group(BUSY) as neighbour, slowed([busy], HARDLY):
        stopped = psutil.STATUS_STOPPED
        until(lambda: all(psutil.Process(pid).status() == stopped for pid in members(busy)))
        assert goes_on_for_good(neighbour)


def test_each_of_several_groups_is_held_to_the_share(busy: int) -> None:
    with group(BUSY) as other, slowed([busy, other], HARDLY):
        until(lambda: is_stopped(busy))
        until(lambda: is_stopped(other))


def test_a_group_that_uses_less_than_its_share_is_left_alone() -> None:
    with group(IDLE) as idle:
        until(lambda: psutil.Process(idle).status() == psutil.STATUS_SLEEPING)
        with slowed([idle], 0.5):
            assert goes_on_for_good(idle)


def test_a_group_goes_on_after_an_error_inside(busy: int) -> None:
    def slow_down_and_fail() -> None:
        with slowed([busy], HARDLY):
            until(lambda: is_stopped(busy))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slow_down_and_fail()
    assert goes_on_for_good(busy)


def test_a_group_goes_on_after_kill_9_of_whoever_slowed_it(busy: int) -> None:
    command = [sys.executable, "-c", SLOWS, str(busy), str(HARDLY)]
    with subprocess.Popen(command, cwd=ROOT) as slower:
        until(lambda: is_stopped(busy))
        slower.kill()
    until(lambda: goes_on_for_good(busy))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_an_end_of_the_throttle_itself_is_told_and_the_group_goes_on(
    busy: int, number: signal.Signals
) -> None:
    def slow_down_and_be_ended() -> None:
        with slowed([busy], HARDLY):
            until(lambda: is_stopped(busy))
            throttle = throttle_of(busy)
            throttle.send_signal(number)
            # It is this process's child, which reads its exit code later.
            until(lambda: throttle.status() == psutil.STATUS_ZOMBIE)

    with pytest.raises(UserError, match=r"slows replicas down is gone: it ended with \d+"):
        slow_down_and_be_ended()
    assert goes_on_for_good(busy)


def test_a_replica_that_dies_meanwhile_leaves_the_others_slowed(busy: int) -> None:
    with group(BUSY) as victim, slowed([victim, busy], HARDLY):
        until(lambda: is_stopped(victim))
        os.killpg(victim, signal.SIGKILL)
        until(lambda: not goes_on_for_good(busy))


def test_a_group_that_is_gone_before_is_no_error() -> None:
    with group(IDLE) as number:
        pass
    with slowed([number], 0.5):
        pass
