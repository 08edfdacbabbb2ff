"""The engine host: leases, forked replicas, and that nothing is left behind.

The servers here only wait: what is tested is who lives how long, without vLLM.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.environments.local.enginehost.replicas import (
    ProcessIdentity,
    ReplicaSpec,
    identify,
    is_alive,
)
from bench.environments.local.host import (
    Engines,
    Lease,
    await_end,
    end_engines,
    read_engines,
    write_spec,
)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0

# Loading ends with a line on standard input. Each server forks a child, as vLLM does,
# logs its process number and waits.
HOST = """
import json, multiprocessing, signal, sys, time
from bench.environments.local.enginehost import main

def serve(spec):
    if "stubborn" in spec.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    print("child", child.pid, flush=True)
    time.sleep(600)

def load():
    sys.stdin.readline()
    return serve

main.FIRST_LEASE_TIMEOUT_S = main.STOP_GRACE_S = 0.2
with open(sys.argv[1]) as spec:
    main.run(json.load(spec), load)
"""


class RunningHost:
    """A host in a process of its own."""

    def __init__(self, folder: Path, *argv: str) -> None:
        self.folder = folder
        self.state = folder.with_name("state.json")
        self.log = folder.with_name("one.log")
        folder.mkdir()
        core = max(os.sched_getaffinity(0))
        replica = ReplicaSpec("one", "m", core, argv, port=1, log=str(self.log))
        spec = write_spec(folder, self.state, "mark", [replica], {})
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOST, str(spec)], stdin=subprocess.PIPE, cwd=ROOT
        )
        until(self.state.exists)

    def finish_loading(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def engines(self) -> Engines:
        engines = read_engines(self.state)
        assert engines is not None
        return engines

    def fork(self) -> list[ProcessIdentity]:
        """Let it fork; the replica and the replica's own child."""
        self.finish_loading()
        until(lambda: bool(self.engines().replicas))
        until(lambda: self.log.exists() and self.log.read_text().endswith("\n"))
        child = identify(int(self.log.read_text().split()[1]))
        assert child is not None
        return [self.engines().replicas[0].process, child]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does to a file."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def all_end(processes: list[ProcessIdentity]) -> bool:
    return all(await_end(process, PATIENCE_S) for process in processes)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RunningHost]:
    running = RunningHost(tmp_path / "host")
    yield running
    running.process.kill()
    running.process.communicate()


def test_engines_end_with_the_last_lease_and_leave_no_trace(host: RunningHost) -> None:
    first, second = Lease(host.folder), Lease(host.folder)
    processes = host.fork()
    first.close()
    assert all(map(is_alive, processes))
    second.close()
    assert host.process.wait(PATIENCE_S) == 0
    assert all_end(processes)
    assert not host.state.exists()
    assert not host.folder.exists()


def test_kept_engines_outlive_their_lease_and_end_with_the_next(host: RunningHost) -> None:
    lease = Lease(host.folder)
    processes = host.fork()
    lease.keep()
    lease.close()
    with pytest.raises(subprocess.TimeoutExpired):
        host.process.wait(0.3)
    assert all(map(is_alive, processes))
    Lease(host.folder).close()
    assert host.process.wait(PATIENCE_S) == 0
    assert all_end(processes)


def test_a_holder_killed_with_9_ends_its_lease(host: RunningHost) -> None:
    holder_code = (
        "import sys, time; from pathlib import Path\n"
        "from bench.environments.local.host import Lease\n"
        "lease = Lease(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", holder_code, str(host.folder)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    processes = host.fork()
    holder.kill()
    holder.communicate()
    assert host.process.wait(PATIENCE_S) == 0
    assert all_end(processes)


def test_nothing_is_forked_when_the_holder_left_while_loading(host: RunningHost) -> None:
    Lease(host.folder).close()
    host.finish_loading()
    assert host.process.wait(PATIENCE_S) == 0
    assert not host.log.exists()


def test_nothing_is_forked_when_nobody_comes(host: RunningHost) -> None:
    host.finish_loading()
    assert host.process.wait(PATIENCE_S) == 0
    assert not host.log.exists()


def test_kill_9_of_the_host_takes_replicas_and_their_children_along(host: RunningHost) -> None:
    lease = Lease(host.folder)
    processes = host.fork()
    host.process.kill()
    assert all_end(processes)
    lease.close()


def test_kill_9_of_a_replica_takes_its_child_along_and_shows(host: RunningHost) -> None:
    lease = Lease(host.folder)
    replica, child = host.fork()
    os.kill(replica.pid, signal.SIGKILL)
    assert all_end([replica, child])
    until(lambda: not Path(f"/proc/{replica.pid}").exists())
    assert not host.engines().replicas[0].alive
    assert host.process.poll() is None
    lease.close()


def test_a_replica_is_pinned_and_leads_its_own_process_group(host: RunningHost) -> None:
    lease = Lease(host.folder)
    replica, child = host.fork()
    for process in (replica, child):
        assert os.sched_getaffinity(process.pid) == {max(os.sched_getaffinity(0))}
        assert os.getpgid(process.pid) == replica.pid
    lease.close()


def test_a_replica_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    host = RunningHost(tmp_path / "host", "stubborn")
    lease = Lease(host.folder)
    processes = host.fork()
    lease.close()
    assert host.process.wait(PATIENCE_S) == 0
    assert all_end(processes)
    host.process.communicate()


def test_sigterm_while_it_stops_does_not_interrupt_the_clearing_up(tmp_path: Path) -> None:
    host = RunningHost(tmp_path / "host", "stubborn")
    lease = Lease(host.folder)
    processes = host.fork()
    lease.close()

    def ended_by_another_signal() -> bool:
        host.process.terminate()
        return host.process.poll() is not None

    until(ended_by_another_signal)
    assert all_end(processes)
    assert not host.folder.exists()
    host.process.communicate()


def test_ending_engines_removes_what_a_killed_host_left(host: RunningHost) -> None:
    lease = Lease(host.folder)
    processes = host.fork()
    engines = host.engines()
    host.process.kill()
    host.process.wait()
    end_engines(engines, host.state)
    assert all_end(processes)
    assert not host.folder.exists()
    assert not host.state.exists()
    lease.close()


def test_ending_engines_asks_a_live_host_first(host: RunningHost) -> None:
    lease = Lease(host.folder)
    processes = host.fork()
    end_engines(host.engines(), host.state)
    assert host.process.wait(PATIENCE_S) == 0
    assert all_end(processes)
    lease.close()
