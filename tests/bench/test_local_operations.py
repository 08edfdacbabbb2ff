"""Arms that are deployed on this machine: balancers that outlive the command, and their end.

The engines are said to run already: what is tested is in front of them.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bench.config.topology import Arm, load_topology
from bench.environments.local.kept import read_balancers, stop_kept
from bench.environments.local.operations import LocalOperations
from bench.environments.local.starting import StartedEngines
from bench.errors import UserError
from bench.progress import PlainProgress
from bench.records import Replica
from tests.bench.test_local_balancers import FOREIGN, models

TOPOLOGY = load_topology()
REPLICAS = (Replica("a", "a-0", "http://127.0.0.1:1"),)
PATIENCE_S = 30.0


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def operations(
    tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalOperations]:
    started = StartedEngines({TOPOLOGY.engine: REPLICAS}, {}, {}, found=True)
    monkeypatch.setattr("bench.environments.local.operations.start_engines", lambda *_: started)
    yield LocalOperations(tmp_path, TOPOLOGY, PlainProgress(said))
    stop_kept(tmp_path, PlainProgress(io.StringIO()))


@pytest.fixture
def ports() -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    found = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return found


def arm(name: str, port: int, listed: str = models("a")) -> Arm:
    return Arm(name, port, None, (sys.executable, "-c", FOREIGN, "{port}", listed))


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).is_success
    except httpx.TransportError:
        return False


def deploy(operations: LocalOperations, *arms: Arm, keep: bool = False) -> None:
    operations.deploy(arms, (), keep=keep)


def pids(cache: Path) -> Sequence[int]:
    return [one.process.pid for one in read_balancers(cache)]


def test_arms_stay_up_until_they_are_torn_down(
    operations: LocalOperations, ports: list[int], said: io.StringIO
) -> None:
    first, second = arm("one", ports[0]), arm("two", ports[1])
    deploy(operations, first, second)
    assert [one.name for one in operations.services(None)] == ["one", "two"]
    (found,) = operations.services([first])
    assert (found.ready, found.state, found.url) == (
        True,
        "running",
        f"http://127.0.0.1:{ports[0]}",
    )
    assert operations.fetch(found, "/v1/models") == models("a").encode()

    assert operations.teardown([first])
    assert [answers(port) for port in ports] == [False, True]
    assert said.getvalue().endswith("the engines stay for two\n")
    assert operations.services([first]) == ()
    assert not operations.teardown([first])
    assert operations.teardown(None)
    assert not answers(ports[1])
    assert operations.services(None) == ()


def test_a_balancer_that_is_as_it_should_be_stays_and_another_is_replaced(
    operations: LocalOperations, ports: list[int], tmp_path: Path, said: io.StringIO
) -> None:
    deploy(operations, arm("one", ports[0]))
    before = pids(tmp_path)
    deploy(operations, arm("one", ports[0]))
    assert pids(tmp_path) == before
    deploy(operations, arm("one", ports[0], models("a", "b")))
    assert len(pids(tmp_path)) == 1
    assert pids(tmp_path) != before
    deploy(operations, arm("other", ports[0]))
    assert [one.arm for one in read_balancers(tmp_path)] == ["other"]
    assert said.getvalue().count("the deployed balancer of one is replaced\n") == 2


def test_a_deployment_that_fails_leaves_only_what_was_there(
    operations: LocalOperations, ports: list[int], tmp_path: Path
) -> None:
    there, wrong = arm("there", ports[0]), Arm("wrong", ports[1], None, ("no-such-balancer",))
    deploy(operations, there)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        new = arm("new", taken.getsockname()[1])
    with pytest.raises(UserError, match="cannot start no-such-balancer"):
        deploy(operations, new, wrong)
    assert [one.arm for one in read_balancers(tmp_path)] == ["there"]
    assert (answers(ports[0]), answers(new.port)) == (True, False)
    with pytest.raises(UserError, match="cannot start no-such-balancer"):
        deploy(operations, new, wrong, keep=True)
    assert [one.arm for one in read_balancers(tmp_path)] == ["there", "new"]
    assert answers(new.port)


def test_a_dead_balancer_is_shown_and_its_end_is_seen_by_who_follows_its_log(
    operations: LocalOperations, ports: list[int], tmp_path: Path
) -> None:
    deploy(operations, arm("one", ports[0]))
    (found,) = operations.services(None)
    Path(found.log).write_text("first\nsecond\nthird\nfo", encoding="utf-8")
    assert list(operations.logs(found, 2, follow=False)) == ["third", "fo"]
    lines = operations.logs(found, None, follow=True)
    assert [next(lines) for _ in range(3)] == ["first", "second", "third"]
    with Path(found.log).open("a", encoding="utf-8") as log:
        log.write("urth\n")
    assert next(lines) == "fourth"
    (pid,) = pids(tmp_path)
    os.killpg(pid, signal.SIGKILL)
    assert list(lines) == []
    deadline_s = time.monotonic() + PATIENCE_S
    while (dead := operations.services(None)[0]).ready:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert dead.state.startswith("dead: ")
    assert dead.uptime_s is None
    with pytest.raises(UserError, match="one does not answer /health: "):
        operations.fetch(dead, "/health")
    assert operations.teardown([replace(TOPOLOGY.arm("baseline"), name="one")])
