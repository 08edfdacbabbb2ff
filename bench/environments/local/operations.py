"""What the commands do in environment `local`: engines that run on, and balancers beside them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from bench.config.options import Options
from bench.config.topology import Arm, Model, Topology
from bench.environments.balancers import Balancers, balancer_command
from bench.environments.local.enginehost.replicas import ProcessIdentity
from bench.environments.local.engines import EngineSet
from bench.environments.local.host import (
    Engines,
    RunningReplica,
    end_engines,
    engines_lock,
    read_engines,
    state_file,
)
from bench.environments.local.kept import (
    KeptBalancer,
    end_balancers,
    read_balancers,
    stop_kept,
    write_balancers,
)
from bench.environments.local.starting import arm_ports, run_logs, start_engines
from bench.environments.operations import Operations, Service, fetch_directly
from bench.errors import UserError
from bench.paths import ROOT
from bench.processes.guarded import cause_of_death
from bench.processes.ports import LOOPBACK, accepts_connections
from bench.progress import Progress
from bench.records import Replica

LOG_POLL_S = 0.2


def make_operations(options: Options, topology: Topology, progress: Progress) -> Operations:
    """The operations on the engines of this checkout."""
    del options  # those that remain are for clusters
    return LocalOperations(ROOT / ".cache", topology, progress)


class LocalOperations(Operations):
    """Arms share the engines, of which `cache` has one set."""

    def __init__(self, cache: Path, topology: Topology, progress: Progress) -> None:
        self._cache = cache
        self._topology = topology
        self._progress = progress

    def deploy(self, arms: Sequence[Arm], models: Sequence[Model], *, keep: bool) -> None:
        """Start engines, or take those that run with the same settings, and the arms' balancers.

        A balancer that runs with the same command stays as it is.
        """
        logs, reserved = run_logs(self._cache), arm_ports(self._topology)
        engines = EngineSet(self._cache, logs, self._progress)
        balancers = Balancers(logs, self._progress, reserved=reserved)
        with engines_lock(self._cache, self._progress), ExitStack() as undo:
            before = read_engines(state_file(self._cache))
            undo.callback(self._release, engines, before, keep=False)
            started = start_engines(
                engines, self._cache, self._topology, models, arms, self._progress
            )
            undo.pop_all()
            undo.callback(self._release, engines, before, keep=keep)
            undo.callback(balancers.stop)
            try:
                for arm in arms:
                    replicas = started.groups[self._topology.for_arm(arm).engine]
                    balancers.serve(replicas)
                    if not self._is_up(arm, replicas):
                        balancers.urls(arm, 1)
            except (UserError, KeyboardInterrupt):
                if keep:
                    self._record(balancers)
                raise
            self._record(balancers)
            undo.pop_all()
            engines.release(keep=True)

    def services(self, arms: Sequence[Arm] | None) -> tuple[Service, ...]:
        """The balancers that were deployed, and all engines; of `arms` without balancer nothing."""
        names = None if arms is None else {arm.name for arm in arms}
        kept = [one for one in read_balancers(self._cache) if names is None or one.arm in names]
        if names is not None and not kept:
            return ()
        engines = read_engines(state_file(self._cache))
        replicas = () if engines is None else engines.replicas
        return (
            *map(_balancer_service, sorted(kept, key=lambda one: one.arm)),
            *map(_engine_service, sorted(replicas, key=lambda one: one.spec.name)),
        )

    def fetch(self, service: Service, path: str) -> bytes:
        return fetch_directly(service, path)

    def logs(self, service: Service, lines: int | None, *, follow: bool) -> Iterator[str]:
        try:
            with Path(service.log).open(encoding="utf-8", errors="replace") as file:
                found = deque(file, maxlen=lines)
                # Its writer has not ended the last line yet.
                begun = found.pop() if follow and found and not found[-1].endswith("\n") else ""
                yield from (line.rstrip("\n") for line in found)
                if follow:
                    yield from self._new_lines(service, file, begun)
        except OSError as error:
            raise UserError(f"cannot read {service.log}: {error.strerror}") from None

    def teardown(self, arms: Sequence[Arm] | None) -> bool:
        if arms is None:
            return stop_kept(self._cache, self._progress)
        names = {arm.name for arm in arms}
        with engines_lock(self._cache, self._progress, timeout_s=0.0):
            kept = read_balancers(self._cache)
            ended = [one for one in kept if one.arm in names]
            if not ended:
                return False
            end_balancers(self._cache, ended)
            if others := [one.arm for one in kept if one not in ended]:
                self._progress.note(f"the engines stay for {', '.join(others)}")
            elif engines := read_engines(state_file(self._cache)):
                end_engines(engines, state_file(self._cache))
            return True

    def _is_up(self, arm: Arm, replicas: Sequence[Replica]) -> bool:
        """Whether the arm's balancer runs as it should. Ends others in its place."""
        wanted = tuple(balancer_command(arm, arm.port, [one.url for one in replicas]))
        for one in read_balancers(self._cache):
            if one.arm == arm.name and one.alive and one.command == wanted:
                self._progress.note(f"the balancer of {arm.name} is up already")
                return True
            if one.arm == arm.name or one.port == arm.port:
                if one.alive:
                    self._progress.note(f"the deployed balancer of {one.arm} is replaced")
                end_balancers(self._cache, [one])
        return False

    def _release(self, engines: EngineSet, before: Engines | None, *, keep: bool) -> None:
        """End engines after a failure; those that were there before stay, and with `keep` all."""
        now = read_engines(state_file(self._cache))
        same = before is not None and now is not None and before.host == now.host
        whole = bool(engines.processes()) and not engines.dead()
        engines.release(keep=whole and (same or keep))

    def _record(self, balancers: Balancers) -> None:
        """Let `balancers` run on, and write down which they are."""
        new = [KeptBalancer.of(one) for one in balancers.running]
        write_balancers(self._cache, [*read_balancers(self._cache), *new])
        balancers.keep()

    def _new_lines(self, service: Service, file: TextIO, begun: str) -> Iterator[str]:
        """The lines that are written to `file`, `begun` already, until the service has ended."""
        over = False
        while not over:
            over = not self._is_running(service)
            while line := file.readline():
                begun += line
                if begun.endswith("\n"):
                    yield begun.rstrip("\n")
                    begun = ""
            time.sleep(0.0 if over else LOG_POLL_S)
        if begun:
            yield begun

    def _is_running(self, service: Service) -> bool:
        found = (one for one in self.services(None) if one.log == service.log)
        return any(one.uptime_s is not None for one in found)


def _balancer_service(one: KeptBalancer) -> Service:
    return _service(
        Service("balancer", one.arm, arm=one.arm, log=one.log), one.process, one.port, one.alive
    )


def _engine_service(one: RunningReplica) -> Service:
    spec = one.spec
    service = Service(
        "engine", spec.name, model=spec.model, place=f"core {spec.core}", log=spec.log
    )
    return _service(service, one.process, spec.port, one.alive)


def _service(named: Service, process: ProcessIdentity, port: int, alive: bool) -> Service:
    """`named` with its state: whether its process runs and listens, and for how long."""
    listens = alive and accepts_connections(port)
    state = "running" if listens else "starting"
    ticks = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    uptime_s = max(0.0, (ticks - process.start) / os.sysconf("SC_CLK_TCK"))
    return replace(
        named,
        url=f"http://{LOOPBACK}:{port}",
        state=state if alive else f"dead: {cause_of_death(Path(named.log))}",
        ready=listens,
        uptime_s=uptime_s if alive else None,
    )
