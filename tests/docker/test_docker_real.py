"""With a Docker daemon that has the suite's images: what users do, and what happens to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import docker
from bench.analysis.blocks import group_blocks
from bench.config.topology import load_topology
from bench.environments.docker import deploying
from bench.environments.docker.compose import BALANCER, ENGINE
from bench.environments.docker.daemon import Daemon
from bench.environments.docker.environment import DockerEnvironment
from bench.paths import suite_version
from bench.processes.ports import is_free
from bench.progress import make_progress
from bench.store import TrialStore

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.serial]

ROOT = Path(__file__).parents[2]
TOPOLOGY = load_topology()
MODEL = "tiny-llama"
BASELINE, MANAGED = TOPOLOGY.arm("baseline"), TOPOLOGY.arm("managed")
# A busy machine may take long to import vLLM four times.
START_S, END_S = 900.0, 120.0
RUN = (
    *(sys.executable, "-m", "pytest", "-m", "managed", "-k", "heavy_tail", "--models", MODEL),
    *("--env", "docker", "--hardware", "cpu", "--profile", "quick"),
)
# A verdict either way, also that noise hides it or that the machine was busy; no usage error.
ANSWERED = {0, 1}


def await_true(look: Callable[[], object], what: str, timeout_s: float) -> None:
    end_s = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < end_s, f"{what} has not come within {timeout_s:.0f} s"
        time.sleep(0.5)


def nothing_left(daemon: Daemon) -> bool:
    ports = [BASELINE.port, MANAGED.port, *range(8001, 8005)]
    return not daemon.projects() and all(map(is_free, ports))


@pytest.fixture
def bystander(daemon: Daemon) -> Iterator[Callable[[], None]]:
    """A container, a network and a volume of somebody else; fails the test if one is touched."""
    client = docker.DockerClient(base_url=daemon.url)
    name = "bystander-of-a-test"
    client.networks.create(name)
    client.volumes.create(name)
    client.containers.run(
        f"llm-bench-lb:{suite_version()}",
        name=name,
        entrypoint=["sleep", "3600"],
        network=name,
        volumes=[f"{name}:/data"],
        detach=True,
    )
    before = client.api.inspect_container(name)["State"]

    def untouched() -> None:
        assert client.api.inspect_container(name)["State"] == before
        assert client.networks.list(names=[name])
        assert client.volumes.get(name)

    yield untouched
    client.api.remove_container(name, force=True)
    client.api.remove_network(name)
    client.api.remove_volume(name)
    client.close()


@pytest.fixture
def run(daemon: Daemon, tmp_path: Path, ctrl_c_works: None) -> Iterator[subprocess.Popen[bytes]]:
    """A comparison that is being measured."""
    before = stored_trials()
    log = tmp_path / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            RUN, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:

        def measuring() -> bool:
            assert process.poll() is None, log.read_text()
            return stored_trials() > before

        await_true(measuring, "the first trial", START_S)
        yield process
    finally:
        process.kill()
        process.wait()
        await_true(lambda: nothing_left(daemon), "the end of all containers", END_S)


def stored_trials() -> int:
    """How many trials in containers have been stored, of all runs."""
    return len(list((ROOT / "results").glob("*/docker/*/*/*/*block-*.json")))


def test_two_arms_come_up_are_compared_and_leave_nothing(
    daemon: Daemon, bystander: Callable[[], None]
) -> None:
    done = subprocess.run(RUN, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in ANSWERED, done.stdout
    assert "managed against baseline" in done.stdout
    trials = TrialStore(ROOT / "results").load_run()
    assert {trial.environment for trial in trials} == {"docker"}
    assert all(block.complete for block in group_blocks(trials)[:2])
    for trial in trials:
        served = {one.replica for one in trial.samples if one.ok}
        assert served == {f"{MODEL}-0", f"{MODEL}-1"}, "balancers' names of replicas are known"
    assert nothing_left(daemon)
    bystander()


def test_a_run_that_is_killed_leaves_nothing_but_its_trials(
    daemon: Daemon, run: subprocess.Popen[bytes], bystander: Callable[[], None]
) -> None:
    assert {one.kind for one in daemon.containers()} == {ENGINE, BALANCER}
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    await_true(lambda: nothing_left(daemon), "the end of all containers", END_S)
    assert TrialStore(ROOT / "results").load_run()
    bystander()


def test_a_run_that_is_interrupted_leaves_nothing_but_its_trials(
    daemon: Daemon, run: subprocess.Popen[bytes]
) -> None:
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does
    assert run.wait(END_S) == pytest.ExitCode.INTERRUPTED
    assert nothing_left(daemon)
    assert TrialStore(ROOT / "results").load_run()


def test_an_engine_that_is_killed_under_load_is_named(
    daemon: Daemon, run: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    engine = next(one for one in daemon.containers() if one.service == f"{MODEL}-1")
    client = docker.DockerClient(base_url=daemon.url)
    client.api.kill(engine.id)
    client.close()
    assert run.wait(START_S) == 1
    said = (tmp_path / "output").read_text()
    assert f"{MODEL}-1" in said
    assert "ended with exit code 137" in said
    assert nothing_left(daemon)


def test_a_deployed_arm_is_asked_how_it_is_and_taken_down(daemon: Daemon) -> None:
    def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bench", *arguments, "--env", "docker"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    try:
        done = bench("deploy", "baseline", "--hardware", "cpu", "--models", MODEL)
        assert done.returncode == 0, done.stderr
        asked = bench("health", "--format", "json")
        assert asked.returncode == 0, asked.stdout
        services = json.loads(asked.stdout)["services"]
        assert [one["models"] for one in services] == [[MODEL]] * 3
        assert all(one["version"] for one in services)
        client = docker.DockerClient(base_url=daemon.url)
        client.api.kill(services[-1]["name"])
        client.close()
        asked = bench("health", "--format", "json")
        assert asked.returncode == 1
        assert "137" in json.loads(asked.stdout)["services"][-1]["problem"]
    finally:
        bench("teardown")
    assert nothing_left(daemon)


def test_where_there_is_room_for_one_arm_they_take_turns(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "free_gib", lambda _: 3.0)
    environment = DockerEnvironment(
        TOPOLOGY, (BASELINE, MANAGED), tmp_path, make_progress(), timeout_s=START_S
    )
    try:
        environment.start([TOPOLOGY.models[MODEL]])
        assert environment.alternates
        seen = []
        for arm in (BASELINE, MANAGED, MANAGED):
            environment.arm_routes(arm, 1, [MODEL])
            there = daemon.containers()
            assert {one.project for one in there} == {f"llm-bench-{arm.name}"}
            assert {one.arm for one in there if one.kind == BALANCER} == {arm.name}
            assert not environment.dead_replicas()
            seen.append({one.id for one in there})
        first, second, third = seen
        assert second == third, "an arm that is up is left alone"
        assert not first & second
    finally:
        environment.stop()
    assert nothing_left(daemon)
