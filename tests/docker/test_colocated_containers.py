"""Engines that share GPUs in Docker: files, what a run starts, and what is said of each engine."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from bench.config.topology import EngineFlags
from bench.environments.containers.colocated import LAUNCHER, ports_of
from bench.environments.docker import deploying
from bench.environments.docker.compose import DOCKER, compose_files, plan_engines
from bench.environments.docker.daemon import Daemon
from bench.environments.docker.deploying import Deployment, Watch
from bench.environments.docker.operations import DockerOperations
from bench.environments.docker.project import Balancer, Compose, Project, balancer_name
from bench.environments.docker.room import groups_that_fit
from bench.errors import UserError
from bench.progress import PlainProgress
from lb.version import version
from tests.bench.colocating import colocated_topology
from tests.docker.scripted_daemon import ENGINE, Answers, scripted_daemon

TOPOLOGY = colocated_topology()
FILES = compose_files(TOPOLOGY, version())
MODELS = TOPOLOGY.models_for("gpu", "docker")
ARMS = ("baseline", "managed")
PORTS = {"llama-3.1-8b": 8000, "qwen2.5-7b": 8001, "mistral-7b": 8002}
PROJECT = "llm-bench-managed"
Services = dict[str, dict[str, Any]]


def written(arm: str) -> Services:
    """The services of an arm as its files have them."""
    merged: Services = {}
    for file in ("compose.yaml", "compose.colocated.yaml"):
        text = FILES[PurePosixPath(arm) / file]
        for name, service in yaml.safe_load(text)["services"].items():
            merged[name] = {**merged.get(name, {}), **service}
    return merged


@pytest.mark.parametrize("arm", ARMS)
def test_a_container_has_a_gpu_and_an_engine_of_every_model(arm: str) -> None:
    found = written(arm)
    assert sorted(found) == ["balancer", "gpu-0", "gpu-1"]
    for index in (0, 1):
        one = found[f"gpu-{index}"]
        (device,) = one["deploy"]["resources"]["reservations"]["devices"]
        assert device["device_ids"] == [f"{index}"]
        assert ports_of(one["command"]) == PORTS
        assert [port.split(":")[-1] for port in one["ports"]] == ["8000", "8001", "8002"]
        asked = [f"{name}:{port}" for name, port in PORTS.items()]
        assert one["healthcheck"]["test"][-3:] == asked
        assert one["shm_size"] == "6g"
        (mounted,) = [text for text in one["volumes"] if "launcher" in text]
        assert (DOCKER / arm / mounted.partition(":")[0]).resolve() == LAUNCHER.resolve()
    ports = [port for one in found.values() for port in one["ports"]]
    assert len(set(ports)) == len(ports) == 7


def test_memory_is_what_arms_differ_in() -> None:
    lines = {arm: shlex.split(written(arm)["gpu-0"]["command"][0]) for arm in ARMS}
    shares = {
        arm: words[words.index("--gpu-memory-utilization") + 1] for arm, words in lines.items()
    }
    assert shares == {"baseline": "0.3", "managed": "0.9"}
    assert written("managed")["gpu-0"]["environment"]["KVCACHED_GPU_UTILIZATION"] == "0.9"
    assert "KVCACHED" not in f"{written('baseline')}"


def test_the_engines_of_an_arm_with_flags_of_its_own_have_them() -> None:
    flags = EngineFlags(max_num_seqs=8, gpu_memory_utilization=0.8)
    arms = {**TOPOLOGY.arms, "managed": replace(TOPOLOGY.arm("managed"), engine=flags)}
    made = compose_files(replace(TOPOLOGY, arms=arms, layout="dedicated"), version())
    for arm, seqs, share in (("managed", "8", "0.8"), ("baseline", "256", "0.3")):
        text = made[PurePosixPath(arm) / "compose.colocated.yaml"]
        words = shlex.split(yaml.safe_load(text)["services"]["gpu-0"]["command"][0])
        assert words[words.index("--max-num-seqs") + 1] == seqs
        assert words[words.index("--gpu-memory-utilization") + 1] == share
    gpus = yaml.safe_load(made[PurePosixPath("managed/compose.override.yaml")])["services"]
    command = gpus["llama-3-1-8b-0"]["command"]
    assert command[command.index("--max-num-seqs") + 1] == "8"
    assert gpus["llama-3-1-8b-0"]["environment"]["KVCACHED_GPU_UTILIZATION"] == "0.8"


@pytest.mark.parametrize("arm", ARMS)
def test_the_balancer_is_in_front_of_every_engine(arm: str) -> None:
    balancer = written(arm)["balancer"]
    urls = [f"http://gpu-{index}:{port}" for port in PORTS.values() for index in (0, 1)]
    assert balancer["environment"] == {"VLLM_ENDPOINTS": ",".join(urls)}
    assert sorted(balancer["depends_on"]) == ["gpu-0", "gpu-1"]


@pytest.mark.parametrize("arm", ARMS)
def test_what_a_run_starts_is_what_the_files_say(arm: str) -> None:
    wanted = written(arm)
    wanted["balancer"].pop("depends_on")
    own = TOPOLOGY.arm(arm)
    engines = plan_engines(MODELS, TOPOLOGY.gpu_engine.first_port, layout="colocated")
    balancers = (Balancer(own, balancer_name(own, 0), own.port),)
    started = dict(Project(arm, engines, own.kvcached, balancers).services(TOPOLOGY, version()))
    started["balancer"] = started.pop(f"balancer-{arm}")
    assert started == wanted


def test_where_models_do_not_fit_there_are_no_files() -> None:
    small = replace(TOPOLOGY.hardware["docker"], gpu_memory_gib=40.0)
    made = compose_files(replace(TOPOLOGY, hardware={"docker": small}), version())
    assert "compose.colocated.yaml" not in {path.name for path in made}


@pytest.mark.parametrize(("gpus", "rooms"), [(2, 1), (3, 1), (4, 2)])
def test_a_group_takes_a_gpu_for_each_replica(gpus: int, rooms: int) -> None:
    assert groups_that_fit(MODELS, gpus, 0.0, "colocated") == rooms
    with pytest.raises(UserError, match="engines need 2 GPUs"):
        groups_that_fit(MODELS, 1, 0.0, "colocated")


# On a daemon that has such a container.


def shared() -> dict[str, Any]:
    labels = {
        **{key: ENGINE["Config"]["Labels"][key] for key in ("llm-bench", "llm-bench.kind")},
        "com.docker.compose.project": PROJECT,
        "com.docker.compose.service": "gpu-0",
    }
    command = written("managed")["gpu-0"]["command"]
    bound = {
        f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": f"{9000 + port}"}]
        for port in PORTS.values()
    }
    config = {**ENGINE["Config"], "Labels": labels, "Cmd": command}
    return {
        **ENGINE,
        "Id": "g0",
        "Name": "/g0",
        "Config": config,
        "NetworkSettings": {"Ports": bound},
    }


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with scripted_daemon(tmp_path, shared()) as found:
        monkeypatch.setenv("DOCKER_HOST", found.url)
        yield found


def test_every_engine_is_a_row_with_its_own_address_and_lines(daemon: Daemon) -> None:
    operations = DockerOperations(TOPOLOGY, PlainProgress(io.StringIO()), timeout_s=1.0)
    rows = operations.services(None)
    assert [(one.name, one.model, one.url) for one in rows] == [
        (f"g0:{port}", name, f"http://127.0.0.1:{9000 + port}") for name, port in PORTS.items()
    ]
    assert all(one.kvcached for one in rows)
    Answers.log = b"[llama-3.1-8b] one\n[qwen2.5-7b] two\n[launcher] three\n"
    lines = {one.model: list(operations.logs(one, None, follow=False)) for one in rows}
    assert lines == {"llama-3.1-8b": ["one"], "qwen2.5-7b": ["two"], "mistral-7b": []}


def test_a_container_that_dies_at_start_says_which_engine_it_was(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "_LOOK_S", 0.0)
    watch = Watch(daemon, PROJECT)
    Answers.log = (
        b"[qwen2.5-7b] ValueError: no room\n[llama-3.1-8b] RuntimeError: ends\n"
        b"[launcher] qwen2.5-7b ended with exit code 1, so all are; above: its last lines\n"
    )
    one = Answers.containers["g0"]
    state = {**one["State"], "Status": "exited", "ExitCode": 1}
    Answers.containers["g0"] = {**one, "State": state}
    with pytest.raises(UserError) as caught:
        watch()
    assert str(caught.value) == (
        "gpu-0 died at start: ended with exit code 1: qwen2.5-7b: ValueError: no room; see docker "
        "logs g0"
    )


def test_the_second_arm_has_the_next_ports_and_gpus(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "gpu_names", lambda: ("NVIDIA H100",) * 8)
    monkeypatch.setattr(deploying, "find_compose", lambda: Compose(("true",), "2"))
    progress = PlainProgress(io.StringIO())
    made = Deployment(daemon, TOPOLOGY, MODELS, tmp_path, progress, timeout_s=0.0)
    plans = {group: made._engines(group) for group in ARMS}
    assert {plan.gpus for plan in plans["baseline"]} == {(0,), (1,)}
    assert {plan.gpus for plan in plans["managed"]} == {(2,), (3,)}
    ports = [plan.port for group in plans.values() for plan in group]
    assert ports == list(range(8001, 8013))
    for one in made.replicas("baseline"):
        assert re.fullmatch(r"http://gpu-[01]:800[012]", one.balancer_url)
