"""CPU time by whose it was."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.processes.guarded import Guarded
from bench.telemetry.cpu import (
    CpuTimes,
    CpuWatch,
    busiest,
    children_of,
    cpu_of_others,
    cpu_shares,
    read_cores,
    usage,
)

T = TypeVar("T")
# /proc/stat of a kernel 6.18, two of its four cores shown.
STAT = """\
cpu  3576438 47202 404910 3434708 9944 0 99655 797 0 0
cpu0 1647600 19100 198300 1867800 2120 0 47248 375 0 0
cpu12 1928800 28000 206600 1566900 7823 0 52407 422 0 0
intr 68060697 0 0
ctxt 123456
"""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
BURN = "import time\nwhile time.process_time() < {}: pass"
START = (
    "import subprocess, sys\nprint(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid)"
)
ZERO = CpuTimes(0.0, 0.0, 0.0)
part = st.floats(0, 1)


def test_cores_are_found_by_their_numbers() -> None:
    times = read_cores(STAT, {12})
    assert times is not None
    assert times.busy_s == pytest.approx((1928800 + 28000 + 206600) * TICK_S)
    assert times.stolen_s == pytest.approx(422 * TICK_S)
    assert times.counted_s == pytest.approx(3790952 * TICK_S)
    both, first = read_cores(STAT, {0, 12}), read_cores(STAT, {0})
    assert both is not None
    assert first is not None
    assert both.busy_s == pytest.approx(times.busy_s + first.busy_s)


@pytest.mark.parametrize("stat", ["", "intr 1 2 3\n", "cpu0 1 2 3\n", STAT.replace("cpu0", "cpu7")])
def test_without_the_cores_figures_nothing_is_known(stat: str) -> None:
    assert read_cores(stat, {0}) is None


@given(part, part, part, st.floats(0.1, 1000))
def test_what_was_busy_and_not_our_own_was_others(
    own: float, foreign: float, stolen: float, cores_s: float
) -> None:
    busy_s = (own + foreign) / 2 * cores_s
    after = CpuTimes(busy_s, stolen * cores_s, cores_s)
    shares = cpu_shares(ZERO, after, own / 2 * cores_s, cores_s)
    assert shares.foreign == pytest.approx(foreign / 2, abs=1e-6)
    assert shares.stolen == pytest.approx(stolen, abs=1e-6)


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0.1, 10))
def test_shares_are_shares_also_where_two_clocks_of_the_kernel_disagree(
    busy_s: float, own_s: float, cores_s: float
) -> None:
    shares = cpu_shares(ZERO, CpuTimes(busy_s, 0.0, cores_s), own_s, cores_s)
    assert shares.foreign is not None
    assert 0 <= shares.foreign <= 1


def test_unknown_is_not_zero() -> None:
    some = CpuTimes(1.0, 0.5, 10.0)
    assert cpu_shares(None, some, 1.0, 10.0) == cpu_shares(some, None, 1.0, 10.0)
    assert cpu_shares(None, some, 1.0, 10.0).foreign is None
    elsewhere = cpu_shares(ZERO, some, None, 10.0)
    assert (elsewhere.foreign, elsewhere.stolen) == (None, 0.05)


def test_a_kernel_that_shows_zeros_tells_nothing() -> None:
    shares = cpu_shares(ZERO, ZERO, 0.5, 10.0)
    assert (shares.foreign, shares.stolen) == (None, None)


def test_what_this_process_starts_is_its_own_also_once_it_has_ended() -> None:
    before_s = usage({os.getpid()}).cpu_s
    subprocess.run([sys.executable, "-c", BURN.format(0.3)], check=True)
    assert usage({os.getpid()}).cpu_s - before_s > 0.25


def test_a_process_of_others_is_not_ours_unless_it_is_named() -> None:
    # Whoever starts it ends at once, so that nobody of ours is its parent.
    command = [sys.executable, "-c", START, sys.executable, "-c", BURN.format(60)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    other = psutil.Process(int(done.stdout))
    try:
        ours_s, theirs_s = usage({os.getpid()}).cpu_s, usage({other.pid}).cpu_s
        watch = CpuWatch((), os.sched_getaffinity(0))
        while usage({other.pid}).cpu_s < theirs_s + 0.5:
            time.sleep(0.05)
        foreign = watch.stop().foreign
        assert usage({os.getpid(), other.pid}).cpu_s - ours_s > 0.5
        assert foreign is None or foreign > 0
    finally:
        other.kill()


def test_usage_is_the_sum_over_a_family_of_processes(tmp_path: Path) -> None:
    nested = [sys.executable, "-c", BURN.format(0.3) + "\ntime.sleep(60)"]
    family = f"import subprocess\nsubprocess.run({nested!r})"
    process = Guarded([sys.executable, "-c", family], log=tmp_path / "log")
    try:
        (parent,) = _eventually(lambda: children_of(process.pid))
        (child,) = _eventually(lambda: children_of(parent))
        _eventually(lambda: usage({child}).cpu_s > 0.25)
        one, both = usage({child}), usage({parent})  # in this order: both still grow
        assert both.cpu_s >= one.cpu_s > 0.25
        assert 0 <= both.kernel_s <= both.cpu_s
        assert both.rss_bytes > one.rss_bytes > 2**20
        assert usage({parent}).since(both).cpu_s < both.cpu_s
    finally:
        process.terminate()
    assert children_of(process.pid) == set()
    assert usage({parent, child}).rss_bytes == 0


def _eventually(look: Callable[[], T]) -> T:
    deadline_s = time.monotonic() + 30
    while not (found := look()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return found


def test_other_programs_are_named_and_not_the_benchs_own() -> None:
    burn = [sys.executable, "-c", BURN.format(0.3)]
    with subprocess.Popen(burn) as own, subprocess.Popen(burn) as other:
        seen = cpu_of_others({own.pid})
        assert other.pid in {pid for pid, _ in seen}
        assert own.pid not in {pid for pid, _ in seen}


def test_the_busiest_come_first_and_idle_ones_are_left_out() -> None:
    before = {(1, "init"): 5.0, (2, "idle"): 1.0, (3, "vllm"): 1.0}
    after = {(1, "init"): 5.1, (2, "idle"): 1.0, (3, "vllm"): 3.0, (4, "new"): 1.5}
    assert busiest(before, after) == ["vllm (3)", "new (4)", "init (1)"]
    assert busiest(after, {**after, (5, "pytest"): 0.5}) == ["pytest (5)"]
