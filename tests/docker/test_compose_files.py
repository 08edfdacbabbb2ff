"""The Compose files below `docker/`: what they consist of, whatever the topology says."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.config.topology import Arm, Model, load_topology
from bench.environments.docker.compose import (
    DOCKER,
    EnginePlan,
    balancer_service,
    compose_files,
    plan_engines,
    service_name,
)
from bench.environments.docker.project import Balancer, Project, balancer_name
from bench.errors import UserError
from bench.paths import suite_version

TOPOLOGY = load_topology()
ARMS = ("baseline", "managed")
Services = dict[str, dict[str, Any]]


def services(*paths: str) -> Services:
    """The services of files below `docker/`, merged as Compose does it as far as they need that."""
    merged: Services = {}
    for path in paths:
        for name, service in yaml.safe_load((DOCKER / path).read_text())["services"].items():
            merged[name] = {**merged.get(name, {}), **service}
    return merged


def on_gpus(arm: str) -> Services:
    return services(f"{arm}/compose.yaml", f"{arm}/compose.override.yaml")


def on_cpus(arm: str) -> Services:
    return services(f"{arm}/compose.yaml", "compose.cpu.yaml")


def engines(found: Services) -> Services:
    return {name: one for name, one in found.items() if name != "balancer"}


def devices(service: dict[str, Any]) -> dict[str, Any]:
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    return dict(device)


@pytest.mark.parametrize("arm", ARMS)
def test_each_of_eight_gpus_belongs_to_one_engine_by_its_id(arm: str) -> None:
    found = engines(on_gpus(arm))
    used = {name: devices(one)["device_ids"] for name, one in found.items()}
    assert used == {
        "llama-3-1-8b-0": ["0"],
        "llama-3-1-8b-1": ["1"],
        "qwen2-5-7b-0": ["2"],
        "qwen2-5-7b-1": ["3"],
        "mixtral-8x7b-0": ["4", "5"],
        "mixtral-8x7b-1": ["6", "7"],
    }
    for one in found.values():
        assert devices(one)["capabilities"] == ["gpu"]
        assert "count" not in devices(one)
    for name in ("mixtral-8x7b-0", "mixtral-8x7b-1"):
        command = found[name]["command"]
        assert command[command.index("--tensor-parallel-size") + 1] == "2"


@pytest.mark.parametrize("arm", ARMS)
def test_engines_and_the_balancer_have_the_ports_that_are_promised(arm: str) -> None:
    balancer = {"baseline": 8080, "managed": 8081}[arm]
    for found in (on_gpus(arm), on_cpus(arm)):
        ports = [one["ports"] for one in engines(found).values()]
        assert len(ports) >= 6
        assert ports == [[f"${{BIND:-127.0.0.1}}:{8001 + i}:8000"] for i in range(len(ports))]
        assert found["balancer"]["ports"] == [f"${{BIND:-127.0.0.1}}:{balancer}:8080"]


@pytest.mark.parametrize("arm", ARMS)
def test_the_balancer_waits_for_all_engines_and_is_in_front_of_them(arm: str) -> None:
    for found in (on_gpus(arm), on_cpus(arm)):
        balancer = found["balancer"]
        urls = [f"http://{name}:8000" for name in engines(found)]
        assert balancer["environment"] == {"VLLM_ENDPOINTS": ",".join(urls)}
        assert balancer["depends_on"] == {
            name: {"condition": "service_healthy"} for name in engines(found)
        }
        policy = balancer["command"][balancer["command"].index("--policy") + 1]
        assert policy == TOPOLOGY.arm(arm).policy


def test_kvcached_is_in_engines_of_managed_on_gpus_alone() -> None:
    patched = engines(on_gpus("managed"))
    names = [one["environment"]["KVCACHED_IPC_NAME"] for one in patched.values()]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() and name.islower() for name in names)
    for one in patched.values():
        assert one["image"].startswith("ghcr.io/ovg-project/kvcached-vllm:")
        assert one["environment"]["ENABLE_KVCACHED"] == "true"
        # What runs beside the engine must not be patched, or load vLLM.
        assert one["healthcheck"]["test"][1:3] == ["env", "ENABLE_KVCACHED=false"]
    others = [
        *engines(on_gpus("baseline")).values(),
        *on_cpus("managed").values(),
        on_gpus("managed")["balancer"],
    ]
    assert "KVCACHED" not in json.dumps(others)


@pytest.mark.parametrize("arm", ARMS)
def test_every_service_is_confined_bounded_and_pinned(arm: str) -> None:
    for found in (on_gpus(arm), on_cpus(arm)):
        for name, one in found.items():
            assert not {"privileged", "ipc", "network_mode", "pid"} & one.keys(), name
            assert one["cap_drop"] == ["ALL"]
            assert one["read_only"] is True
            assert one["restart"] == "on-failure:3"
            assert one["logging"]["options"].keys() == {"max-size", "max-file"}
            assert one["healthcheck"]["start_period"] == "10m"
            tag = one["image"].partition(":")[2]
            assert tag not in ("", "latest")


def test_only_engines_on_gpus_get_the_token() -> None:
    for name, one in on_gpus("managed").items():
        assert ("HF_TOKEN" in one.get("environment", {})) is (name != "balancer")
    assert "HF_TOKEN" not in json.dumps(on_cpus("managed"))


@pytest.mark.parametrize("command", [("docker", "compose"), ("docker-compose",)])
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    "hardware", ["compose.override.yaml", "compose.colocated.yaml", "../compose.cpu.yaml"]
)
def test_docker_compose_takes_the_files(
    command: tuple[str, ...], arm: str, hardware: str, tmp_path: Path
) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    if subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
        pytest.skip("Docker Compose v2 is not installed (docker-compose-plugin)")
    if not (DOCKER / arm / hardware).is_file():
        pytest.skip("the models of the topology file cannot be colocated")
    copied = shutil.copytree(DOCKER, tmp_path / "docker")
    files = ["-f", "compose.yaml", "-f", hardware]
    done = subprocess.run(
        [*command, *files, "config", "--services"],
        cwd=copied / arm,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = services(f"{arm}/compose.yaml", f"{arm}/{hardware}")
    assert set(done.stdout.split()) == set(wanted)


def project(hardware: Any, arm: Arm) -> Services:
    """What environment docker starts for an arm with all models."""
    models = TOPOLOGY.models_for(hardware, "docker")
    kvcached = arm.kvcached and hardware == "gpu"
    made = Project(
        arm.name,
        plan_engines(models, TOPOLOGY.gpu_engine.first_port),
        kvcached,
        (Balancer(arm, balancer_name(arm, 0), arm.port),),
    )
    return dict(made.services(TOPOLOGY, suite_version()))


@pytest.mark.parametrize("arm", ARMS)
def test_what_a_run_starts_is_what_the_files_say(arm: str) -> None:
    for hardware, written in (("gpu", on_gpus(arm)), ("cpu", on_cpus(arm))):
        written["balancer"].pop("depends_on")  # a run waits itself, and says for what
        started = project(hardware, TOPOLOGY.arm(arm))
        started["balancer"] = started.pop(f"balancer-{arm}")
        assert started == written


model_names = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,12}[a-z0-9]", fullmatch=True)
hub_models = st.builds(
    Model,
    name=model_names,
    hub=st.just("org/weights"),
    gpus=st.integers(1, 4),
    replicas=st.integers(1, 3),
)


@given(models=st.lists(hub_models, max_size=4), first=st.integers(1, 60000))
def test_no_two_engines_share_a_name_port_or_gpu(models: list[Model], first: int) -> None:
    if len({service_name(model.name) for model in models}) < len(models):
        with pytest.raises(UserError, match="in Docker; choose another name"):
            plan_engines(models, first)
        return
    plans = plan_engines(models, first, first_gpu=3)
    assert len(plans) == sum(model.replicas for model in models)
    assert len({plan.name for plan in plans}) == len(plans)
    assert [plan.port for plan in plans] == list(range(first, first + len(plans)))
    used = [gpu for plan in plans for gpu in plan.gpus]
    assert used == list(range(3, 3 + len(used)))
    assert [len(plan.gpus) for plan in plans] == [
        model.gpus for model in models for _ in range(model.replicas)
    ]


def test_names_that_docker_cannot_tell_apart_are_refused() -> None:
    models = [Model(name, architecture="llama") for name in ("a.b", "a-b")]
    with pytest.raises(UserError, match=r"'a.b' and 'a-b' are both 'a-b' in Docker"):
        plan_engines(models, 8001)


def test_an_arm_with_a_command_of_its_own_is_refused() -> None:
    with pytest.raises(UserError, match="give it a policy"):
        balancer_service(Arm("nginx", 8090, command=("nginx",)), 8090, "0.1.0")


def test_a_users_own_weights_are_mounted_read_only() -> None:
    own = Model("own", path=Path("/models/own"), replicas=1)
    plan = EnginePlan("own-0", own, 8001)
    made = Project("baseline", (plan,), False, ()).services(TOPOLOGY, "0.1.0")["own-0"]
    assert made["volumes"] == [
        {"type": "bind", "source": "/models/own", "target": "/model", "read_only": True}
    ]
    assert made["command"][made["command"].index("--model") + 1] == "/model"


def test_a_topology_without_models_for_gpus_has_files_for_cpus_alone() -> None:
    tiny = {name: one for name, one in TOPOLOGY.models.items() if one.hub is None}
    made = compose_files(replace(TOPOLOGY, models=tiny), "0.1.0")
    assert sorted(map(str, made)) == [
        "baseline/compose.yaml",
        "compose.cpu.yaml",
        "managed/compose.yaml",
    ]


class Answer(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (404, False)])
def test_the_health_check_tells_healthy_from_not(
    answering: http.server.HTTPServer,
    status: int,
    healthy: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Answer, "status", status)
    test = engines(on_cpus("managed"))["tiny-llama-0"]["healthcheck"]["test"]
    assert test[:2] == ["CMD", "python3"]
    code = test[-1].replace("8000", str(answering.server_port))
    assert (subprocess.run([sys.executable, *test[2:-1], code], check=False).returncode == 0) is (
        healthy
    )


def test_the_health_check_fails_where_nobody_listens() -> None:
    test = engines(on_cpus("managed"))["tiny-llama-0"]["healthcheck"]["test"]
    code = test[-1].replace("8000", "1")
    done = subprocess.run([sys.executable, *test[2:-1], code], capture_output=True, check=False)
    assert done.returncode != 0
