"""The services of Docker Compose, and the files below `docker/` that consist of them.

They are for Compose v2 and for docker-compose 1.29, which knows no `name`, `include` or `gpus`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from bench.config.fitting import colocated_models
from bench.config.topology import Arm, Hardware, Layout, Model, Topology
from bench.environments.containers.colocated import (
    COMMAND,
    LAUNCHER,
    MOUNTED_LAUNCHER,
    engine_lines,
    health_command,
    times,
)
from bench.environments.containers.engine import (
    MOUNTED_MODEL,
    PORT,
    arguments,
    engine_container,
    has_kvcached,
)
from bench.environments.containers.files import file_text
from bench.environments.kvcached.collecting import UNPATCHED
from bench.errors import UserError
from bench.paths import PACKAGES, ROOT

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
# From the folder of an arm, which Compose takes paths from.
_LAUNCHER = f"../../{LAUNCHER.relative_to(PACKAGES)}"
# By default ports are those of this machine alone.
BIND = "${BIND:-127.0.0.1}"
_ABOUT_ARM = """\
The arm's balancer, to be started with engines: `docker compose up` in this folder adds those of
compose.override.yaml; docs/how-to/docker.md has the rest."""
_ABOUT_GPUS = "The arm's engines, one or more GPUs each."
_ABOUT_COLOCATED = """\
The arm's engines in layout colocated, those of all models on one GPU, in place of those that have
GPUs of their own, in this folder: docker compose -f compose.yaml -f compose.colocated.yaml up"""
_ABOUT_CPUS = """\
Tiny engines on CPUs in place of those on GPUs, for either arm:
  docker compose -f docker/baseline/compose.yaml -f docker/compose.cpu.yaml up"""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """An engine: its name, its model, its port on this machine, its GPUs or its core.

    `service` is that of its container, where it listens on `inner_port`.
    """

    name: str
    model: Model
    port: int
    gpus: tuple[int, ...] = ()
    core: int | None = None
    service: str = ""
    inner_port: int = PORT

    @property
    def place(self) -> tuple[str, int]:
        """Its container's service, which several may have in common, and its port there."""
        return self.service or self.name, self.inner_port

    @property
    def url(self) -> str:
        """Where balancers reach it."""
        return "http://{}:{}".format(*self.place)


def plan_engines(
    models: Iterable[Model],
    first_port: int,
    *,
    first_gpu: int = 0,
    cores: Sequence[int] = (),
    layout: Layout = "dedicated",
) -> tuple[EnginePlan, ...]:
    """The engines of `models` in their order, on the next ports and GPUs, and on `cores` in turn.

    In layout colocated those with the same index share a GPU and a container. Raises UserError for
    names that are the same as names of services.
    """
    plans: dict[str, EnginePlan] = {}
    for place, model in enumerate(models):
        for index in range(model.replicas):
            name, number = f"{service_name(model.name)}-{index}", len(plans)
            gpus = range(first_gpu, first_gpu + model.gpus)
            service, inner_port = "", PORT
            if layout == "colocated":
                gpus = range(first_gpu + index, first_gpu + index + 1)
                service, inner_port = f"gpu-{index}", PORT + place
            else:
                first_gpu += model.gpus
            core = cores[number % len(cores)] if cores else None
            if name in plans:
                raise UserError(
                    f"models {plans[name].model.name!r} and {model.name!r} are both "
                    f"{service_name(model.name)!r} in Docker; choose another name for one of them"
                )
            port = first_port + number
            plans[name] = EnginePlan(name, model, port, tuple(gpus), core, service, inner_port)
    return tuple(plans.values())


def service_name(name: str) -> str:
    """A model's or an arm's name as Docker and DNS take it."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def service_ipc_name(service: str) -> str:
    """The name that KVCached has for the engine of a service."""
    return service.replace("-", "_")


def engine_service(
    plan: EnginePlan, topology: Topology, version: str, *, kvcached: bool
) -> Service:
    """The service of an engine; `version` is that of the suite's own images."""
    model, templates = plan.model, _templates()
    own = engine_container(model.hardware, topology, version, kvcached=kvcached)
    made = {**templates["all"], **templates["engine"][model.hardware]}
    variables = {**own.variables, **made.pop("environment", {})}
    if kvcached:
        variables["KVCACHED_IPC_NAME"] = service_ipc_name(plan.name)
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


def engine_services(
    plans: Iterable[EnginePlan], topology: Topology, version: str, *, kvcached: bool
) -> dict[str, Service]:
    """The services of engines: one for each, or for all that share a container."""
    services, shared = {}, defaultdict[str, list[EnginePlan]](list)
    for plan in plans:
        if plan.service:
            shared[plan.service].append(plan)
        else:
            services[plan.name] = engine_service(plan, topology, version, kvcached=kvcached)
    return services | {
        name: shared_service(together, topology, kvcached=kvcached)
        for name, together in shared.items()
    }


def shared_service(plans: Sequence[EnginePlan], topology: Topology, *, kvcached: bool) -> Service:
    """The service of engines that share a GPU, in the order of their ports in the container."""
    templates, count = _templates(), len(plans)
    own = engine_container("gpu", topology, "", kvcached=kvcached)
    made = {**templates["all"], **templates["engine"]["gpu"]}
    del made["arguments"]  # the launcher's are whole lines
    health = {
        **templates["health"],
        "start_period": times(templates["health"]["start_period"], count),
    }
    return {
        "image": f"{own.image}:{own.tag}",
        "user": f"{own.user}:{own.group}",
        "entrypoint": list(COMMAND),
        "command": list(engine_lines([plan.model for plan in plans], topology, kvcached=kvcached)),
        "environment": {**own.variables, **made.pop("environment")},
        "ports": [f"{BIND}:{plan.port}:{plan.inner_port}" for plan in plans],
        "labels": {PART_OF: "", KIND: ENGINE},
        **made,
        "shm_size": times(made["shm_size"], count),
        "volumes": [*made["volumes"], f"{_LAUNCHER}:{MOUNTED_LAUNCHER}:ro"],
        "healthcheck": {
            "test": ["CMD", *health_command({plan.model.name: plan.inner_port for plan in plans})],
            **health,
        },
        "deploy": _reservation(plans[0].gpus),
    }


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
        "depends_on": {plan.place[0]: {"condition": "service_healthy"} for plan in plans},
    }


def network() -> Service:
    """The network of a project, with the suite's label."""
    return {"default": {"labels": {PART_OF: ""}}}


def compose_files(topology: Topology, version: str) -> Mapping[PurePosixPath, str]:
    """The text of every generated file, by its path below `docker/`.

    `version` is that of the suite's own images. Layout colocated has files where its models fit.
    """
    files = {}
    for arm in (topology.arms[name] for name in WRITTEN if name in topology.arms):
        folder = PurePosixPath(arm.name)
        balancer = {"balancer": balancer_service(arm, arm.port, version)}
        files[folder / "compose.yaml"] = file_text(
            [{"services": balancer, "networks": network()}], _ABOUT_ARM
        )
        own, kvcached = topology.for_arm(arm), has_kvcached(arm, "gpu")
        if engines := _engines(own, "gpu", version, kvcached=kvcached):
            files[folder / "compose.override.yaml"] = file_text([engines], _ABOUT_GPUS)
        if colocated_models(own, "docker"):
            colocated = replace(own, layout="colocated")
            engines = _engines(colocated, "gpu", version, kvcached=kvcached)
            files[folder / "compose.colocated.yaml"] = file_text([engines], _ABOUT_COLOCATED)
    if engines := _engines(topology, "cpu", version, kvcached=False):
        files[PurePosixPath("compose.cpu.yaml")] = file_text([engines], _ABOUT_CPUS)
    return files


def _engines(topology: Topology, hardware: Hardware, version: str, *, kvcached: bool) -> Service:
    """The engines of all models for that hardware, and what a balancer has of them."""
    models = topology.models_for(hardware, "docker")
    plans = plan_engines(models, topology.gpu_engine.first_port, layout=topology.layout)
    if not plans:
        return {}
    engines = engine_services(plans, topology, version, kvcached=kvcached)
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
    unpatched = UNPATCHED if patched else ()
    return {
        "test": ["CMD", *unpatched, "python3", "-ISc", code],
        **_templates()["health"],
    }


def _templates() -> Service:
    """What services.yaml has, to be changed by the caller."""
    made: Service = yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))
    return made
