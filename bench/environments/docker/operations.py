"""What the commands do in environment `docker`: arms in projects of Compose."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from bench.config.options import Options
from bench.config.topology import Arm, Model, Topology
from bench.environments.containers.engine import engine_group
from bench.environments.docker.compose import BALANCER, ENGINE
from bench.environments.docker.daemon import Container, Daemon
from bench.environments.docker.deploying import (
    GROUPS,
    Deployment,
    group_for,
    removed_if_killed,
)
from bench.environments.docker.project import group_of, take_down
from bench.environments.operations import Operations, Service, fetch_directly
from bench.errors import UserError
from bench.paths import ROOT
from bench.processes.guarded import lines_of_engine
from bench.progress import Progress


def make_operations(options: Options, topology: Topology, progress: Progress) -> Operations:
    """The operations on the daemon of this machine. Sends no request yet."""
    return DockerOperations(topology, progress, options.ready_timeout)


class DockerOperations(Operations):
    """Arms with the same engines share a project. Engines may take `timeout_s` to become ready."""

    def __init__(self, topology: Topology, progress: Progress, timeout_s: float) -> None:
        self._topology = topology
        self._progress = progress
        self._timeout_s = timeout_s

    def deploy(self, arms: Sequence[Arm], models: Sequence[Model], *, keep: bool) -> None:
        """Balancers of other arms stay. Raises UserError where there is no room for all groups."""
        there = {group_of(one.project) for one in self._daemon.containers() if one.kind == ENGINE}
        wanted = dict.fromkeys(group_for(arm, self._topology, models) for arm in arms)
        deployment = Deployment(
            self._daemon,
            self._topology,
            models,
            ROOT / ".cache",
            self._progress,
            self._timeout_s,
            tuple(dict.fromkeys((*GROUPS, *sorted({*wanted, *there})))),
        )
        if len({*wanted, *there}) > deployment.rooms:
            raise UserError(
                f"there is room for the engines of {deployment.rooms} of {', '.join(wanted)}"
                + (f", and {', '.join(sorted(there))} is up" if there else "")
                + ": deploy one arm at a time, or let pytest take turns"
            )
        deployment.adopt(self._topology.arms, wanted)
        new = [group for group in wanted if group not in there]
        with removed_if_killed(new):
            try:
                for arm in arms:
                    deployment.up(arm)
            except (UserError, KeyboardInterrupt):
                for group in () if keep else new:
                    deployment.take_down(group)
                raise

    def services(self, arms: Sequence[Arm] | None) -> tuple[Service, ...]:
        """All containers of the arms' projects, also those that were started by hand."""
        found = self._containers(arms)
        return tuple(
            row
            for one in sorted(found, key=lambda one: (one.project, one.kind, one.name))
            for row in self._services(one, found)
        )

    def fetch(self, service: Service, path: str) -> bytes:
        return fetch_directly(service, path)

    def logs(self, service: Service, lines: int | None, *, follow: bool) -> Iterator[str]:
        """Of an engine that shares a container, its own among the last lines of that."""
        name, _, port = service.name.partition(":")
        named = [one for one in self._daemon.containers() if one.name == name]
        found = self._daemon.lines(named[0], lines, follow=follow) if named else iter(())
        return lines_of_engine(found, service.model) if port else found

    def teardown(self, arms: Sequence[Arm] | None) -> bool:
        """Remove the arms' balancers, and with the last one of a project all of it."""
        removed = False
        names = None if arms is None else {arm.name for arm in arms}
        for project in self._projects(arms):
            balancers = [one for one in self._daemon.containers(project) if one.kind == BALANCER]
            going = [one for one in balancers if names is None or one.arm in names]
            if len(going) == len(balancers):
                removed |= take_down(self._daemon, project, self._progress)
            elif going:
                self._daemon.remove(going, self._progress.note)
                removed = True
        return removed

    @cached_property
    def _daemon(self) -> Daemon:
        return Daemon.chosen(os.environ)

    def _projects(self, arms: Sequence[Arm] | None) -> tuple[str, ...]:
        found = self._daemon.projects()
        if arms is None:
            return found
        # Which flags all engines have, too, depends on the hardware, which is not known here.
        names, groups = {arm.name for arm in arms}, set(map(engine_group, arms))
        theirs = {one.project for one in self._daemon.containers() if one.arm in names}
        return tuple(one for one in found if one in theirs or group_of(one) in groups)

    def _containers(self, arms: Sequence[Arm] | None) -> list[Container]:
        names = None if arms is None else {arm.name for arm in arms}
        return [
            one
            for project in self._projects(arms)
            for one in self._daemon.containers(project)
            if names is None or one.kind == ENGINE or one.arm in names
        ]

    def _services(self, one: Container, found: Sequence[Container]) -> Iterator[Service]:
        """A row for each engine in a container, or for what else it has."""
        row = self._service(one, found)
        if one.model or not one.engines:
            yield row
            return
        for model, port in one.engines.items():
            url = one.urls.get(port, "")
            yield replace(row, name=f"{one.name}:{port}", model=model, url=url)

    def _service(self, one: Container, found: Sequence[Container]) -> Service:
        arms = {other.arm for other in found if other.project == one.project and other.arm}
        now = datetime.datetime.now(datetime.UTC)
        return Service(
            "engine" if one.kind == ENGINE else "balancer",
            one.name,
            arm=one.arm or (arms.pop() if len(arms) == 1 else ""),
            model=one.model,
            url=one.url,
            place=one.place,
            state=self._state(one),
            ready=one.runs,
            restarts=one.restarts,
            uptime_s=max(0.0, (now - one.started).total_seconds()) if one.runs else None,
            kvcached="ENABLE_KVCACHED" in one.variables,
            log=f"docker logs {one.name}",
        )

    def _state(self, one: Container) -> str:
        """Why it does not run; else what its health check has found, if that is bad."""
        if one.end:
            return self._daemon.cause(one)
        return "unhealthy" if one.health == "unhealthy" else one.status
