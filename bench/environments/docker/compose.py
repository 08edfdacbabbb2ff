"""The services of Docker Compose, and the files below `docker/` that consist of them.

They are for Compose v2 and for docker-compose 1.29, which knows no `name`, `include` or `gpus`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from bench.config.options import ROOT
from bench.config.topology import Arm, Hardware, Model, Topology
from bench.environments.containers.engine import (
    MOUNTED_MODEL,
    PORT,
    arguments,
    engine_container,
    has_kvcached,
)
from bench.environments.containers.files import file_text
from bench.errors import UserError

Service = dict[str, Any]
"""A service, or another part of a file, as JSON values."""

DOCKER = ROOT / "docker"
TEMPLATES = Path(__file__).with_name("services.yaml")
# The arms that have files of their own, one for each group of engines.
WRITTEN = ("baseline", "managed")
# The label of every container and network of the suite, and what a container is, or is of.
PART_OF, KIND, MODEL, ARM = "llm-bench", "llm-bench.kind", "llm-bench.model", "llm-bench.arm"
ENGINE, BALANCER = "engine", "balancer"
BALANCER_PORT = 8080
# By default ports are those of this machine alone.
BIND = "${BIND:-127.0.0.1}"
_ABOUT_ARM = """\
The arm's balancer, to be started with engines: `docker compose up` in this folder adds those of
compose.override.yaml; docs/how-to/docker.md has the rest."""
_ABOUT_GPUS = "The arm's engines, one or more GPUs each."
_ABOUT_CPUS = """\
Tiny engines on CPUs in place of those on GPUs, for either arm:
  docker compose -f docker/baseline/compose.yaml -f docker/compose.cpu.yaml up"""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """An engine: its service's name, its model, its port on this machine, its GPUs or its core."""

    name: str
    model: Model
    port: int
    gpus: tuple[int, ...] = ()
    core: int | None = None

    @property
    def url(self) -> str:
        """Where balancers reach it."""
        return f"http://{self.name}:{PORT}"


def plan_engines(
    models: Iterable[Model], first_port: int, *, first_gpu: int = 0, cores: Sequence[int] = ()
) -> tuple[EnginePlan, ...]:
    """The engines of `models` in their order, on the next ports and GPUs, and on `cores` in turn.

    Raises UserError for names that are the same as names of services.
    """
    plans: dict[str, EnginePlan] = {}
    for model in models:
        for index in range(model.replicas):
            name, number = f"{service_name(model.name)}-{index}", len(plans)
            gpus = range(first_gpu, first_gpu + model.gpus)
            first_gpu += model.gpus
            core = cores[number % len(cores)] if cores else None
            if name in plans:
                raise UserError(
                    f"models {plans[name].model.name!r} and {model.name!r} are both "
                    f"{service_name(model.name)!r} in Docker; choose another name for one of them"
                )
            plans[name] = EnginePlan(name, model, first_port + number, tuple(gpus), core)
    return tuple(plans.values())


def service_name(name: str) -> str:
    """A model's or an arm's name as Docker and DNS take it."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def engine_service(
    plan: EnginePlan, topology: Topology, version: str, *, kvcached: bool
) -> Service:
    """The service of an engine; `version` is that of the suite's own images."""
    model, templates = plan.model, _templates()
    own = engine_container(model.hardware, topology, version, kvcached=kvcached)
    made = {**templates["all"], **templates["engine"][model.hardware]}
    variables = {**own.variables, **made.pop("environment", {})}
    if kvcached:
        variables["KVCACHED_IPC_NAME"] = plan.name.replace("-", "_")
    if len(plan.gpus) > 1:
        variables |= templates["parallel"].pop("environment")
        made |= templates["parallel"]
    service: Service = {
        "image": f"{own.image}:{own.tag}",
        "user": f"{own.user}:{own.group}",
        "entrypoint": list(own.command),
        "command": [*arguments(model, topology), *made.pop("arguments")],
        "environment": variables,
        "ports": [f"{BIND}:{plan.port}:{PORT}"],
        "labels": {PART_OF: "", KIND: ENGINE, MODEL: model.name},
        **made,
        "healthcheck": _health(PORT, "/health", patched=kvcached),
    }
    if not own.command:
        del service["entrypoint"]
    if plan.core is not None:
        service["cpuset"] = f"{plan.core}"
    if plan.gpus:
        service["deploy"] = _reservation(plan.gpus)
    if model.path is not None:
        mount = {"type": "bind", "source": f"{model.path}", "target": MOUNTED_MODEL}
        service.setdefault("volumes", []).append({**mount, "read_only": True})
    return service


def balancer_service(arm: Arm, port: int, version: str) -> Service:
    """The service of an arm's balancer, which does not know its engines yet.

    Raises UserError for an arm that has no balancer of this project.
    """
    if arm.policy is None:
        raise UserError(
            f"arm {arm.name!r} has a command of its own, which environment docker cannot run: "
            "give it a policy of this project's balancer"
        )
    made = _templates()
    return {
        "image": f"llm-bench-lb:{version}",
        "command": ["--policy", arm.policy, *arm.options, *made["balancer"].pop("arguments")],
        "ports": [f"{BIND}:{port}:{BALANCER_PORT}"],
        "labels": {PART_OF: "", KIND: BALANCER, ARM: arm.name},
        **made["all"],
        **made["balancer"],
        "healthcheck": _health(BALANCER_PORT, "/ready"),
    }


def in_front_of(plans: Iterable[EnginePlan]) -> Service:
    """What a balancer's service has of the engines that it is in front of."""
    plans = tuple(plans)
    return {
        "environment": {"VLLM_ENDPOINTS": ",".join(plan.url for plan in plans)},
        "depends_on": {plan.name: {"condition": "service_healthy"} for plan in plans},
    }


def network() -> Service:
    """The network of a project, with the suite's label."""
    return {"default": {"labels": {PART_OF: ""}}}


def compose_files(topology: Topology, version: str) -> Mapping[PurePosixPath, str]:
    """The text of every generated file, by its path below `docker/`.

    `version` is that of the suite's own images.
    """
    files = {}
    for arm in (topology.arms[name] for name in WRITTEN if name in topology.arms):
        folder = PurePosixPath(arm.name)
        balancer = {"balancer": balancer_service(arm, arm.port, version)}
        files[folder / "compose.yaml"] = file_text(
            [{"services": balancer, "networks": network()}], _ABOUT_ARM
        )
        if engines := _engines(topology, "gpu", version, kvcached=has_kvcached(arm, "gpu")):
            files[folder / "compose.override.yaml"] = file_text([engines], _ABOUT_GPUS)
    if engines := _engines(topology, "cpu", version, kvcached=False):
        files[PurePosixPath("compose.cpu.yaml")] = file_text([engines], _ABOUT_CPUS)
    return files


def _engines(topology: Topology, hardware: Hardware, version: str, *, kvcached: bool) -> Service:
    """The engines of all models for that hardware, and what a balancer has of them."""
    models = topology.models_for(hardware, "docker")
    plans = plan_engines(models, topology.gpu_engine.first_port)
    if not plans:
        return {}
    engines = {
        plan.name: engine_service(plan, topology, version, kvcached=kvcached) for plan in plans
    }
    return {"services": {**engines, "balancer": in_front_of(plans)}}


def _reservation(gpus: Sequence[int]) -> Service:
    ids = [f"{gpu}" for gpu in gpus]
    device = {"driver": "nvidia", "device_ids": ids, "capabilities": ["gpu"]}
    return {"resources": {"reservations": {"devices": [device]}}}


def _health(port: int, path: str, *, patched: bool = False) -> Service:
    """A health check in Python, which all images have; the one module that it needs loads fast.

    Without site-packages (-S), and told not to be `patched` by KVCached, it does not load what an
    engine does.
    """
    code = _templates()["health_code"].format(port=port, path=path)
    unpatched = ["env", "ENABLE_KVCACHED=false", "KVCACHED_AUTOPATCH=0"] if patched else []
    return {
        "test": ["CMD", *unpatched, "python3", "-ISc", code],
        **_templates()["health"],
    }


def _templates() -> Service:
    """What services.yaml has, to be changed by the caller."""
    made: Service = yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))
    return made
