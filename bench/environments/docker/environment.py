"""Environment `docker`: engines and balancers in containers of this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from bench.config.config import Config
from bench.config.topology import Arm, Model, Topology
from bench.environments.base import model_facts
from bench.environments.containers.colocated import ipc_name
from bench.environments.containers.engine import VLLM_VERSION
from bench.environments.containers.environment import ContainerEnvironment
from bench.environments.docker.compose import ENGINE, service_ipc_name
from bench.environments.docker.daemon import Container, Daemon, processes
from bench.environments.docker.deploying import Deployment, group_for, removed_if_killed
from bench.environments.docker.room import gpu_names
from bench.environments.kvcached.collecting import Console
from bench.errors import UserError
from bench.processes import throttle
from bench.processes.guarded import lines_of_engine, of_ended_engine
from bench.processes.local import LocalSite
from bench.processes.resources import cpu_name
from bench.progress import Progress
from bench.records import Replica


def make_environment(config: Config, progress: Progress) -> DockerEnvironment:
    """The environment as the options want it; nothing is started yet."""
    return DockerEnvironment(
        config.topology,
        tuple(config.arms.values()),
        config.cache,
        progress,
        timeout_s=config.options.ready_timeout,
        keep=config.options.keep_env,
    )


class DockerEnvironment(ContainerEnvironment):
    """vLLM engines in containers, each group with the balancers of its arms.

    They come up by Docker Compose. Load is sent from this machine.
    """

    name = "docker"

    def __init__(
        self,
        topology: Topology,
        arms: Sequence[Arm],
        cache: Path,
        progress: Progress,
        *,
        timeout_s: float,
        keep: bool = False,
    ) -> None:
        super().__init__(topology, arms, cache, progress, timeout_s=timeout_s, keep=keep)
        self._deployment: Deployment | None = None

    def site(self) -> LocalSite:
        return LocalSite()

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        self._bring_up(arm)
        if len(self._deployed.urls(arm)) != balancers:
            self._deployed.up(arm, balancers)
        return dict.fromkeys(models, self._deployed.urls(arm))

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        """All engines of the arm's group."""
        return self._deployed.replicas(self._group(arm))

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        """Raises UserError for engines on GPUs, and unless this process may signal containers."""
        if any(model.gpus for model in self._models.values()):
            raise UserError(
                f"a core's share does not slow engines on GPUs ({share:.0%} was wanted): run this "
                "scenario with --hardware cpu"
            )
        if os.geteuid() != 0:
            raise UserError(
                "only root may slow containers of Docker: run this scenario as root, or with --env "
                "local"
            )
        names = {replica.name for replica in replicas}
        return throttle.slowed(
            [one.pid for one in self._containers() if one.service in names and one.pid], share
        )

    def processes(self) -> tuple[int, ...]:
        """The processes in all containers, and those that Docker publishes ports by."""
        return processes(self._containers())

    def _group(self, arm: Arm) -> str:
        return group_for(arm, self._topology, tuple(self._models.values()))

    @property
    def _deployed(self) -> Deployment:
        assert self._deployment is not None, "start comes first"
        return self._deployment

    def _containers(self) -> list[Container]:
        return [one for group in self._up for one in self._deployed.containers(group)]

    def _prepare(self, models: Sequence[Model]) -> None:
        daemon = Daemon.chosen(os.environ)
        self._progress.note(f"Docker {daemon.version()} at {daemon.url}")
        self._daemon = daemon
        self._deployment = Deployment(
            daemon,
            self._topology,
            models,
            self._cache,
            self._progress,
            self._timeout_s,
            sorted(self._groups),
        )
        self._cleanup.enter_context(removed_if_killed(self._groups))

    def _all_fit(self) -> bool:
        return self._deployed.rooms >= len(self._groups)

    def _deploy(self, arm: Arm) -> Collection[str]:
        """All arms of a group that have been deployed are reached: each has its own balancer."""
        self._deployed.up(arm)
        return {*self._up.get(self._group(arm), ()), arm.name}

    def _stop_group(self, group: str) -> None:
        self._deployed.take_down(group)

    def _teardown(self, group: str) -> None:
        self._deployed.take_down(group)

    def _latest_starts(self, group: str) -> Mapping[str, Hashable]:
        there = self._deployed.containers(group)
        return {one.name: one.starts for one in there if one.kind == ENGINE and one.runs}

    def _dead(self, group: str, name: str, *, gone: bool) -> str:
        for one in self._deployed.containers(group):
            if one.name == name:
                who, _ = of_ended_engine(self._daemon.log(one))
                after = f" after the end of {who.removesuffix(': ')}" if who else ""
                how = self._daemon.cause(one) if gone else f"was restarted{after}"
                return f"{one.service} ({how}; see docker logs {name})"
        return f"container {name} is gone"

    def _consoles(self, group: str) -> Sequence[Console]:
        there = [one for one in self._deployed.containers(group) if one.kind == ENGINE and one.runs]
        return [
            self._console(one, model, port) for one in there for model, port in one.engines.items()
        ]

    def _console(self, one: Container, model: str, port: int) -> Console:
        """That of an engine, which has the container for itself, or a part of its log."""

        def lines() -> Iterator[str]:
            found = self._daemon.lines(one, None, follow=False)
            return found if one.model else lines_of_engine(found, model)

        return Console(
            one.service if one.model else f"{one.service}:{port}",
            model,
            service_ipc_name(one.service) if one.model else ipc_name(self._models[model]),
            port,
            one.service,
            log=lines,
            run=lambda command: self._daemon.execute(one, command),
            start=lambda command: self._daemon.start(one, command),
        )

    def _provenance(self) -> Mapping[str, Any]:
        hardware = {model.hardware for model in self._models.values()}
        engine = self._topology.engine if "cpu" in hardware else self._topology.gpu_engine
        return {
            "docker": self._daemon.version(),
            "compose": self._deployed.compose.version,
            "images": self._daemon.image_ids(self._containers()),
            "engine_versions": {"vllm": VLLM_VERSION},
            "engine_flags": asdict(engine),
            **model_facts(tuple(self._models.values())),
            "pinned_core": {one.service: one.core for one in self._containers() if one.core},
            "gpus": list(gpu_names()),
            "cpu": cpu_name(),
            "usable_cores": len(os.sched_getaffinity(0)),
            "memory_bytes": psutil.virtual_memory().total,
            "kernel": platform.release(),
        }
