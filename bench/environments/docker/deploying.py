"""Arms on this machine's Docker daemon: brought up, waited for, and taken down."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path

from bench.config.fitting import gpus_needed
from bench.config.topology import Arm, Model, Topology
from bench.environments.answers import await_answers
from bench.environments.balancers import await_ready
from bench.environments.containers.engine import engine_group, has_kvcached
from bench.environments.docker.compose import BALANCER, ENGINE, EnginePlan, plan_engines
from bench.environments.docker.daemon import Container, Daemon
from bench.environments.docker.project import (
    PREFIX,
    Balancer,
    Project,
    balancer_name,
    find_compose,
    group_of,
    take_down,
    up,
)
from bench.environments.docker.room import free_gib, gpu_names, groups_that_fit
from bench.errors import UserError
from bench.paths import suite_version
from bench.processes.local import LocalSite
from bench.processes.ports import LOOPBACK, free_ports
from bench.processes.program import END
from bench.progress import Progress
from bench.records import Replica

# A look at all containers takes some milliseconds of CPU, which starting engines need.
_LOOK_S = 2.0
_REAPER_TIMEOUT_S = 90.0
# The groups of arms without engine flags.
GROUPS = ("baseline", "managed")
_PARALLEL_ADVICE = (
    "; engines on several GPUs (tensor parallel) hang at start where NCCL cannot pass data between "
    "the GPUs: look at docker logs, then try again with NCCL_P2P_DISABLE=1"
)


class Deployment:
    """Arms with the same models, in one project for each group of engines.

    `rooms` says for how many of the `groups` this machine has room.
    """

    def __init__(
        self,
        daemon: Daemon,
        topology: Topology,
        models: Sequence[Model],
        cache: Path,
        progress: Progress,
        timeout_s: float,
        groups: Sequence[str] = GROUPS,
    ) -> None:
        """Raises UserError if there is no Docker Compose, or no room for one group."""
        self._daemon = daemon
        self._topology = topology
        self._models = tuple(models)
        self._folder = cache / "docker"
        self._progress = progress
        self._timeout_s = timeout_s
        self._groups = tuple(groups)
        self._version = suite_version()
        self._balancers: dict[str, tuple[Balancer, ...]] = {}
        # By group that is up: the base URLs of each service, whose address .env may have chosen.
        self._urls: dict[str, Mapping[str, Mapping[int, str]]] = {}
        self.compose = find_compose()
        running = sum(one.kind == ENGINE and one.runs for one in daemon.containers())
        gpus = len(gpu_names()) if any(model.gpus for model in models) else 0
        self.rooms = groups_that_fit(self._models, gpus, free_gib(running), topology.layout)
        # By group, whose ports and GPUs come after those of the place before. With less room, one
        # group is up at a time.
        each = range(len(self._groups)) if self.rooms >= len(self._groups) else repeat(0)
        self._places = dict(zip(self._groups, each, strict=False))

    def up(self, arm: Arm, count: int = 1) -> None:
        """Return when the arm's engines and `count` balancers are ready. Safe to repeat.

        Raises UserError with the reason, and the command that shows the log, if one does not become
        ready; what has been started stays.
        """
        group = self._group(arm)
        others = tuple(one for one in self._balancers.get(group, ()) if one.arm != arm)
        self._balancers[group] = (*others, *self._of(arm, count, others))
        project = self._project(group)
        services = project.services(self._topology.for_arm(arm), self._version)
        up(
            project,
            services,
            self.compose,
            self._daemon,
            self._folder,
            self._progress,
            self._timeout_s,
        )
        self._urls[group] = {one.service: one.urls for one in self.containers(group)}
        self._await_engines(project)
        with self._progress.step(f"waiting for the balancer of {arm.name}") as step:
            for balancer in self._balancers[group]:
                await_ready(
                    balancer.arm,
                    self._url(group, balancer),
                    self.replicas(group),
                    step,
                    Watch(self._daemon, project.name),
                    f"the log of {balancer.name} (docker logs)",
                )

    def adopt(self, arms: Mapping[str, Arm], wanted: Collection[str]) -> None:
        """Leave alone what runs already when the `wanted` groups are brought up.

        Balancers of `arms` (by name) stay, and engines stay where they are: another group gets a
        place that is free. Raises UserError where none is.
        """
        for group in self._groups:
            there = [one for one in self.containers(group) if one.kind == BALANCER]
            self._balancers[group] = tuple(
                Balancer(arms[one.arm], one.service, one.ports[0])
                for one in there
                if one.runs and one.ports and one.arm in arms
            )
        taken = self._taken()
        for group in wanted:
            others = {place for other, of in taken.items() if other != group for place in of}
            new = (self._groups.index(group), *range(self.rooms))
            places = (*sorted(taken.get(group, ())), *(one for one in new if one < self.rooms))
            free = [one for one in places if one not in others]
            if not free:
                raise UserError(
                    f"no ports and GPUs are left for the engines of {group} beside those of "
                    f"{', '.join(sorted(taken))}: python -m bench teardown --env docker ends these"
                )
            self._places[group] = free[0]
            taken[group] = {free[0]}

    def urls(self, arm: Arm) -> tuple[str, ...]:
        """The base URLs of the arm's balancers that have been brought up."""
        return tuple(self._url(self._group(arm), one) for one in self._of_arm(arm))

    def replicas(self, group: str) -> tuple[Replica, ...]:
        """The engines of a group as replicas; they need not be up."""
        return tuple(
            Replica(plan.model.name, plan.name, self._url(group, plan), balancer_url=plan.url)
            for plan in self._engines(group)
        )

    def containers(self, group: str) -> tuple[Container, ...]:
        """The containers of a group that are there."""
        return self._daemon.containers(PREFIX + group)

    def take_down(self, group: str) -> bool:
        """Return when nothing of a group is left; False if there was nothing."""
        self._balancers.pop(group, None)
        self._urls.pop(group, None)
        return take_down(self._daemon, PREFIX + group, self._progress)

    def _url(self, group: str, service: EnginePlan | Balancer) -> str:
        name, port = service.place
        found = self._urls.get(group, {}).get(name, {})
        return found.get(port, f"http://{LOOPBACK}:{service.port}")

    def _group(self, arm: Arm) -> str:
        return group_for(arm, self._topology, self._models)

    def _of_arm(self, arm: Arm) -> tuple[Balancer, ...]:
        group = self._balancers.get(self._group(arm), ())
        return tuple(one for one in group if one.arm == arm)

    def _project(self, group: str) -> Project:
        balancers = self._balancers[group]
        hardware = self._models[0].hardware
        kvcached = any(has_kvcached(one.arm, hardware) for one in balancers)
        return Project(group, self._engines(group), kvcached, balancers)

    def _engines(self, group: str) -> tuple[EnginePlan, ...]:
        place, layout = self._places[group], self._topology.layout
        port = self._topology.gpu_engine.first_port + place * self._ports
        gpu = place * gpus_needed(self._models, layout)
        on_cpu = self._models[0].hardware == "cpu"
        cores = sorted(os.sched_getaffinity(0)) if on_cpu else ()
        return plan_engines(self._models, port, first_gpu=gpu, cores=cores, layout=layout)

    def _taken(self) -> dict[str, set[int]]:
        """The places of each group with engines that run: several if they are of other models."""
        gpus = gpus_needed(self._models, self._topology.layout)
        taken = defaultdict[str, set[int]](set)
        for one in self._daemon.containers():
            if one.kind == ENGINE and one.runs:
                first_port = self._topology.gpu_engine.first_port
                taken[group_of(one.project)] |= {
                    *(
                        (port - first_port) // self._ports
                        for port in one.ports
                        if port >= first_port
                    ),
                    *(int(gpu) // gpus for gpu in one.gpus if gpus and gpu.isdigit()),
                }
        return taken

    @property
    def _ports(self) -> int:
        """How many ports the engines of a group have."""
        return sum(model.replicas for model in self._models)

    def _of(self, arm: Arm, count: int, others: Collection[Balancer]) -> Iterator[Balancer]:
        """`count` balancers of an arm: those that there are first, then on ports that are free."""
        there = self._of_arm(arm)
        taken = {one.port for one in (*others, *there)}
        taken |= {one.port for one in self._topology.arms.values()}
        taken |= {plan.port for group in self._groups for plan in self._engines(group)}
        free = free_ports(arm.port + 1, taken)
        for index in range(count):
            if index < len(there):
                yield there[index]
            else:
                port = next(free) if index else arm.port
                yield Balancer(arm, balancer_name(arm, index), port)

    def _await_engines(self, project: Project) -> None:
        replicas = self.replicas(project.group)
        parallel = {plan.name for plan in project.engines if len(plan.gpus) > 1}

        def advice(late: Collection[str]) -> str:
            return _PARALLEL_ADVICE if parallel & set(late) else ""

        check = Watch(self._daemon, project.name)
        with self._progress.step(f"waiting for the engines of {project.group}") as step:
            asyncio.run(await_answers(replicas, step, self._timeout_s, check, advice))


def group_for(arm: Arm, topology: Topology, models: Sequence[Model]) -> str:
    """The group of an arm's engines: flags that all engines of `models` have, too, do not count."""
    return engine_group(topology.own_flags(arm, models[0].hardware))


class Watch:
    """Looks now and then whether a container of a project has ended or started again."""

    def __init__(self, daemon: Daemon, project: str) -> None:
        self._daemon = daemon
        self._project = project
        self._before = {one.name: one.starts for one in daemon.containers(project)}
        self._last_s = time.monotonic()

    def __call__(self) -> None:
        """Raise UserError with the reason if one has."""
        if time.monotonic() - self._last_s < _LOOK_S:
            return
        self._last_s = time.monotonic()
        there = {one.name: one for one in self._daemon.containers(self._project)}
        for name, starts in self._before.items():
            if name not in there:
                raise UserError(f"container {name} is gone: somebody has removed it")
            one = there[name]
            if not one.runs or one.starts != starts:
                cause = self._daemon.cause(one, at_start=True)
                raise UserError(f"{one.service} died at start: {cause}; see docker logs {name}")


@contextmanager
def removed_if_killed(groups: Collection[str]) -> Iterator[None]:
    """Let another process remove everything of groups should this one be killed in the context."""
    arguments = [PREFIX + group for group in groups]
    reaper = LocalSite().start("bench.environments.docker.reaper", arguments, 0)
    try:
        reaper.line(_REAPER_TIMEOUT_S)  # once it is ready
        yield
    finally:
        reaper.send(END)
        reaper.close()
