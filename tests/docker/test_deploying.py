"""Arms in Docker: where their engines are, and what is said of engines that do not come up."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.config.topology import load_topology
from bench.environments.docker import deploying
from bench.environments.docker.daemon import Daemon
from bench.environments.docker.deploying import GROUPS, Deployment, Watch
from bench.environments.docker.project import Compose, group_of
from bench.errors import UserError
from bench.progress import PlainProgress
from tests.docker.scripted_daemon import Answers, container, scripted_daemon

TOPOLOGY = load_topology()
BASELINE = TOPOLOGY.arm("baseline")
PROJECT = "llm-bench-baseline"
LABELS = {"llm-bench.kind": "engine", "com.docker.compose.service": "mixtral-8x7b-0"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with scripted_daemon(tmp_path, container("a", PROJECT, **LABELS)) as found:
        yield found


def deployment(
    daemon: Daemon,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    groups: Sequence[str] = GROUPS,
) -> Deployment:
    """One of all models for Docker's GPUs, on a machine that has so many and starts nothing."""
    monkeypatch.setattr(deploying, "gpu_names", lambda: ("NVIDIA H100",) * gpus)
    monkeypatch.setattr(deploying, "find_compose", lambda: Compose(("true",), "2"))
    monkeypatch.setattr(deploying, "up", lambda *_: None)
    models = TOPOLOGY.models_for("gpu", "docker")
    progress = PlainProgress(io.StringIO())
    return Deployment(daemon, TOPOLOGY, models, folder, progress, 0.0, groups)


@pytest.mark.parametrize(("gpus", "second"), [(8, 8001), (15, 8001), (16, 8007)])
def test_the_second_arm_has_the_next_ports_where_both_fit(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, second: int
) -> None:
    made = deployment(daemon, tmp_path, monkeypatch, gpus)
    for group, first in (("baseline", 8001), ("managed", second)):
        urls = [one.url for one in made.replicas(group)]
        assert urls == [f"http://127.0.0.1:{first + index}" for index in range(6)]


def test_engines_on_several_gpus_that_hang_come_with_advice(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as caught:
        deployment(daemon, tmp_path, monkeypatch, 8).up(BASELINE)
    said = str(caught.value)
    assert "mixtral-8x7b-0, mixtral-8x7b-1" in said
    assert "did not answer within 0 s" in said
    assert said.endswith("try again with NCCL_P2P_DISABLE=1")


def running(number: str, group: str, port: int, *gpus: int) -> dict[str, Any]:
    """An engine of a group."""
    one = container(number, f"llm-bench-{group}", **{"llm-bench.kind": "engine"})
    bound = {"Ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": f"{port}"}]}}
    requests = {"DeviceRequests": [{"DeviceIDs": [f"{gpu}" for gpu in gpus]}]}
    return {**one, "NetworkSettings": bound, "HostConfig": requests}


def places(
    daemon: Daemon, folder: Path, monkeypatch: pytest.MonkeyPatch, *wanted: str
) -> dict[str, int]:
    """The first port of each group that is wanted, on a machine with 32 GPUs, room for four."""
    there = {group_of(one.project) for one in daemon.containers()}
    groups = tuple(dict.fromkeys((*GROUPS, *sorted({*wanted, *there}))))
    made = deployment(daemon, folder, monkeypatch, 32, groups)
    made.adopt(TOPOLOGY.arms, wanted)
    return {group: int(made.replicas(group)[0].url.rpartition(":")[2]) for group in wanted}


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ({}, {"baseline": 8001, "managed": 8007, "other": 8013}),
        # In the order of names, the new group would have the place of the one that runs.
        ({"managed-z": 2}, {"managed-a": 8001}),
        ({"managed-z": 2}, {"managed-a": 8001, "managed-z": 8013, "managed": 8007}),
        ({"managed-a": 0, "managed-z": 1}, {"baseline": 8013, "managed": 8019}),
        ({"baseline": 3}, {"baseline": 8019, "managed": 8007}),
        # More names of groups than places: all would have the first one.
        ({"a": 0, "b": 1, "c": 3}, {"d": 8013}),
    ],
)
def test_no_two_groups_have_the_same_ports_and_what_runs_keeps_its_own(
    daemon: Daemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: dict[str, int],
    wanted: dict[str, int],
) -> None:
    Answers.containers = {
        f"{group}-{index}": running(f"{group}-{index}", group, 8001 + 6 * place + index, 8 * place)
        for group, place in there.items()
        for index in range(6)
    }
    assert places(daemon, tmp_path, monkeypatch, *wanted) == wanted


def test_engines_of_other_models_keep_their_ports_and_gpus_too(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve of one GPU each: they have the ports of two places, and the GPUs of two."""
    Answers.containers = {
        f"{index}": running(f"{index}", "managed", 8001 + index, index) for index in range(12)
    }
    assert places(daemon, tmp_path, monkeypatch, "baseline") == {"baseline": 8013}
    assert places(daemon, tmp_path, monkeypatch, "managed") == {"managed": 8001}
    Answers.containers["far"] = running("far", "other", 8100, 16, 24)
    with pytest.raises(UserError, match="no ports and GPUs are left for the engines of baseline"):
        places(daemon, tmp_path, monkeypatch, "baseline")


def changed(**state: Any) -> None:
    one = Answers.containers["a"]
    Answers.containers["a"] = {**one, "State": {**one["State"], **state}}


def test_a_container_that_dies_at_start_is_named_with_its_last_error(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "_LOOK_S", 0.0)
    watch = Watch(daemon, PROJECT)
    watch()
    Answers.log = b"INFO loading\nRuntimeError: CUDA out of memory\n"
    changed(Status="exited", ExitCode=1)
    with pytest.raises(UserError) as caught:
        watch()
    assert str(caught.value) == (
        "mixtral-8x7b-0 died at start: ended with exit code 1: RuntimeError: CUDA out of memory; "
        "see docker logs a"
    )


def test_a_container_that_docker_starts_again_has_died(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "_LOOK_S", 0.0)
    watch = Watch(daemon, PROJECT)
    Answers.log = b"ValueError: no such model\n"
    changed(StartedAt="2026-02-01T00:00:00Z")
    with pytest.raises(UserError, match="died at start: ValueError: no such model"):
        watch()


def test_a_container_that_somebody_removes_is_gone(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "_LOOK_S", 0.0)
    watch = Watch(daemon, PROJECT)
    Answers.containers.clear()
    with pytest.raises(UserError, match="container a is gone"):
        watch()
