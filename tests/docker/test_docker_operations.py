"""What the commands see and end of the suite's containers, whoever has started them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.config.topology import EngineFlags, load_topology
from bench.environments.docker import deploying
from bench.environments.docker.deploying import group_for
from bench.environments.docker.operations import DockerOperations
from bench.environments.docker.project import Compose
from bench.errors import UserError
from bench.progress import PlainProgress
from tests.docker.scripted_daemon import Answers, container, scripted_daemon

TOPOLOGY = load_topology()
BASELINE, SIMPLE, MANAGED = (TOPOLOGY.arm(name) for name in ("baseline", "simple", "managed"))
BY_HAND, OURS = "managed", "llm-bench-baseline"


def engine(number: str, project: str) -> dict[str, Any]:
    labels = {"llm-bench.kind": "engine", "llm-bench.model": "tiny-llama"}
    return container(number, project, **labels)


def balancer(number: str, project: str, arm: str) -> dict[str, Any]:
    labels = {"llm-bench.kind": "balancer", "llm-bench.arm": arm}
    return container(number, project, **labels)


@pytest.fixture
def operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerOperations]:
    """On a daemon with two arms in one project, another one by hand, and a stranger."""
    there = (
        engine("e1", OURS),
        balancer("b1", OURS, "baseline"),
        balancer("b2", OURS, "simple"),
        engine("e2", BY_HAND),
        balancer("b3", BY_HAND, "managed"),
        {**container("theirs", "theirs"), "Config": {"Labels": {}, "Env": None}},
    )
    with scripted_daemon(tmp_path, *there) as daemon:
        monkeypatch.setenv("DOCKER_HOST", daemon.url)
        yield DockerOperations(TOPOLOGY, PlainProgress(io.StringIO()), timeout_s=1.0)


def rows(operations: DockerOperations, *arms: Any) -> list[tuple[str, str, str]]:
    return [(one.name, one.kind, one.arm) for one in operations.services(arms or None)]


def test_an_engine_is_the_arms_where_no_other_arm_has_it(operations: DockerOperations) -> None:
    assert rows(operations) == [
        ("b1", "balancer", "baseline"),
        ("b2", "balancer", "simple"),
        ("e1", "engine", ""),
        ("b3", "balancer", "managed"),
        ("e2", "engine", "managed"),
    ]
    assert rows(operations, MANAGED) == [
        ("b3", "balancer", "managed"),
        ("e2", "engine", "managed"),
    ]


def test_an_arm_whose_flags_all_engines_have_has_the_engines_of_all(
    operations: DockerOperations,
) -> None:
    """On CPUs; on GPUs the same flag makes engines of its own."""
    usual = TOPOLOGY.engine.max_num_seqs
    arm = replace(SIMPLE, engine=EngineFlags(max_num_seqs=usual))
    models = {
        one: [m for m in TOPOLOGY.models.values() if m.hardware == one] for one in ("cpu", "gpu")
    }
    assert group_for(arm, TOPOLOGY, models["cpu"]) == "baseline"
    assert group_for(arm, TOPOLOGY, models["gpu"]) == f"baseline-max-num-seqs-{usual}"
    assert rows(operations, arm) == [("b2", "balancer", "simple"), ("e1", "engine", "simple")]
    assert operations.teardown([arm])
    assert sorted(Answers.containers) == ["b1", "b3", "e1", "e2", "theirs"]


def test_engines_end_with_the_last_arm_that_has_them(operations: DockerOperations) -> None:
    assert operations.teardown([SIMPLE])
    assert sorted(Answers.containers) == ["b1", "b3", "e1", "e2", "theirs"]
    assert operations.teardown([BASELINE])
    assert sorted(Answers.containers) == ["b3", "e2", "theirs"]
    assert not operations.teardown([BASELINE])


def test_all_that_is_the_suites_ends_and_nothing_else(operations: DockerOperations) -> None:
    assert operations.teardown(None)
    assert list(Answers.containers) == ["theirs"]
    assert not operations.teardown(None)
    assert rows(operations) == []


def test_a_service_that_ended_says_how(operations: DockerOperations) -> None:
    one = Answers.containers["e2"]
    Answers.containers["e2"] = {**one, "State": {"Status": "exited", "ExitCode": 137}}
    (_, found) = operations.services([MANAGED])
    assert not found.ready
    assert found.uptime_s is None
    assert found.state == (
        "ended with exit code 137: no error in its log, so it was killed from outside"
    )


def test_an_arm_for_which_there_is_no_room_beside_another_is_refused(
    operations: DockerOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "find_compose", lambda: Compose(("true",), "2"))
    monkeypatch.setattr(deploying, "free_gib", lambda _: 3.0)
    before: set[str] = set(Answers.containers)
    with pytest.raises(
        UserError, match="is up: deploy one arm at a time, or let pytest take turns"
    ):
        operations.deploy([MANAGED], [TOPOLOGY.models["tiny-llama"]], keep=False)
    assert set(Answers.containers) == before


def test_a_deployment_that_fails_leaves_what_was_there(
    operations: DockerOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        Answers.containers["new"] = engine("new", "llm-bench-managed")
        raise UserError("no")

    del Answers.containers["e2"], Answers.containers["b3"]
    monkeypatch.setattr(deploying, "find_compose", lambda: Compose(("true",), "2"))
    monkeypatch.setattr(deploying, "up", fail)
    before: set[str] = set(Answers.containers)
    with pytest.raises(UserError, match=r"^no$"):
        operations.deploy([MANAGED], [TOPOLOGY.models["tiny-llama"]], keep=False)
    assert set(Answers.containers) == before
    with pytest.raises(UserError, match=r"^no$"):
        operations.deploy([MANAGED], [TOPOLOGY.models["tiny-llama"]], keep=True)
    assert set(Answers.containers) == {*before, "new"}


def test_a_daemon_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    operations = DockerOperations(TOPOLOGY, PlainProgress(io.StringIO()), timeout_s=1.0)
    with pytest.raises(UserError, match="no Docker daemon answers"):
        operations.services(None)
