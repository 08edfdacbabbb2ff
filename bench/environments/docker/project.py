"""A group of engines and the balancers in front of them: one project of Docker Compose."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.topology import Arm, Topology
from bench.environments.docker.compose import (
    BALANCER_PORT,
    DOCKER,
    EnginePlan,
    Service,
    balancer_service,
    engine_services,
    in_front_of,
    network,
    service_name,
)
from bench.environments.docker.daemon import Container, Daemon
from bench.errors import UserError
from bench.processes.guarded import error_in_log, run_bounded
from bench.processes.ports import is_free, port_holder
from bench.progress import Progress

# Before the name of a group, in the name of its project.
PREFIX = "llm-bench-"
_HOW_TO_BUILD = "docker build -f docker/{}.Dockerfile -t {} ."
_DOCKERFILES = {"llm-bench-lb": "balancer", "llm-bench-engine-cpu": "engine-cpu"}


@dataclass(frozen=True, slots=True)
class Compose:
    """The command that is Docker Compose here, and its version."""

    command: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Balancer:
    """A balancer of an arm: its service's name and its port on this machine."""

    arm: Arm
    name: str
    port: int

    @property
    def place(self) -> tuple[str, int]:
        """Its service, and its port in the container."""
        return self.name, BALANCER_PORT


@dataclass(frozen=True, slots=True)
class Project:
    """The services of a group: engines, with KVCached or without, and balancers of its arms."""

    group: str
    engines: tuple[EnginePlan, ...]
    kvcached: bool
    balancers: tuple[Balancer, ...]

    @property
    def name(self) -> str:
        """The project's name for Compose."""
        return PREFIX + self.group

    def services(self, topology: Topology, version: str) -> Mapping[str, Service]:
        """All services by name. None waits for another: the caller does, and says for what."""
        engines = engine_services(self.engines, topology, version, kvcached=self.kvcached)
        behind = in_front_of(self.engines)["environment"]
        balancers = {
            one.name: {**balancer_service(one.arm, one.port, version), "environment": behind}
            for one in self.balancers
        }
        return {**engines, **balancers}

    def ports(self) -> Mapping[int, str]:
        """The port of this machine that each service listens on, and the service."""
        engines = {plan.port: plan.name for plan in self.engines}
        return engines | {one.port: one.name for one in self.balancers}


def balancer_name(arm: Arm, index: int) -> str:
    """The service of an arm's balancer; an arm's first one has index 0."""
    return f"balancer-{service_name(arm.name)}" + (f"-{index + 1}" if index else "")


def group_of(project: str) -> str:
    """The group of a project; by hand, it is the name of the folder."""
    return project.removeprefix(PREFIX)


def find_compose() -> Compose:
    """Docker Compose as it is installed, version 2 before version 1.

    Raises UserError if there is none.
    """
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run(
            [*command, "version", "--short"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return Compose(command, done.stdout.strip())
    raise UserError(
        "Docker Compose is not installed: install docker-compose-plugin (`docker compose`) or "
        "docker-compose"
    )


def up(
    project: Project,
    services: Mapping[str, Service],
    compose: Compose,
    daemon: Daemon,
    folder: Path,
    progress: Progress,
    limit_s: float,
) -> None:
    """Start what does not run, start anew what has changed, and remove other services.

    Does not wait for anything to become ready. The file and Compose's output are left in `folder`.
    Raises UserError with the reason if that fails.
    """
    _require_images(services, daemon)
    _require_ports(project, daemon.containers(project.name))
    folder.mkdir(parents=True, exist_ok=True)
    file, log = folder / f"{project.name}.json", folder / f"{project.name}.log"
    text = json.dumps({"services": services, "networks": network()}, indent=1)
    file.write_text(text, encoding="utf-8")
    # Of the project's folder Compose reads .env.
    where = ["--project-directory", str(DOCKER / project.group), "--project-name", project.name]
    if not (DOCKER / project.group).is_dir():
        where = where[2:]
    command = [
        *("env", f"DOCKER_HOST={daemon.url}"),  # whatever `docker context` says
        *(*compose.command, *where, "--file", str(file)),
        *("up", "--detach", "--no-deps", "--remove-orphans"),
    ]
    log.unlink(missing_ok=True)
    with progress.step(f"starting the containers of {project.group}") as step:
        name = " ".join(compose.command)
        doing = f"{name}; see {log}"
        step.update(doing)
        code = run_bounded(
            name, command, log=log, limit_s=limit_s, each_second=lambda: step.update(doing)
        )
    if code:
        raise UserError(f"{name} cannot start {project.group}: {_explained(error_in_log(log))}")


def _explained(error: str) -> str:
    if "could not select device driver" in error:
        return f"{error}; install NVIDIA's container toolkit, or use --hardware cpu"
    return error


def _require_images(services: Mapping[str, Service], daemon: Daemon) -> None:
    """Raise UserError, with the command that builds it, if an image of the suite is missing."""
    for image in dict.fromkeys(service["image"] for service in services.values()):
        dockerfile = _DOCKERFILES.get(image.partition(":")[0])
        if dockerfile and not daemon.has_image(image):
            how = _HOW_TO_BUILD.format(dockerfile, image)
            raise UserError(
                f"Docker has no image {image}; build it at the root of the checkout: {how}"
            )


def _require_ports(project: Project, there: Sequence[Container]) -> None:
    """Raise UserError if somebody else listens on a port of the project."""
    own = {port for one in there for port in one.ports}
    for port, name in project.ports().items():
        if port not in own and not is_free(port):
            raise UserError(
                f"port {port} of {name} is held by {port_holder(port)}; end that, or give the "
                "topology file another port"
            )


def take_down(daemon: Daemon, project: str, progress: Progress) -> bool:
    """Remove the suite's containers and networks of a project; False if there were none."""
    containers = daemon.containers(project)
    if containers:
        with progress.step(f"taking down {project}") as step:
            daemon.remove(containers, step.update)
    return daemon.remove_networks(project) or bool(containers)
